title = Ha già effettuato l’accesso altrove
intro =
    { $needed ->
        [one] Per accedere qui, chiuda una delle Sue altre sessioni.
       *[other] Per accedere qui, chiuda { $needed } delle Sue altre sessioni.
    }
intro-marked =
    { $marked ->
        [one] Almeno una deve essere contrassegnata con “{ mark }”.
       *[other] Almeno { $marked } devono essere contrassegnate con “{ mark }”.
    }
mark = Questa applicazione
legend = Le Sue sessioni
device = { $browser } su { $system }
unknown-browser = Browser sconosciuto
unknown-device = Dispositivo sconosciuto
last-used = Ultimo utilizzo: { $ago }
began = Accesso: { $ago }
now = proprio ora
minutes-ago =
    { $count ->
        [one] 1 minuto fa
       *[other] { $count } minuti fa
    }
hours-ago =
    { $count ->
        [one] 1 ora fa
       *[other] { $count } ore fa
    }
days-ago =
    { $count ->
        [one] 1 giorno fa
       *[other] { $count } giorni fa
    }
hidden =
    { $count ->
        [one] Un’altra sessione non è mostrata.
       *[other] Altre { $count } sessioni non sono mostrate.
    }
end = Chiudi e accedi
cancel = Annulla
unfit =
    { $needed ->
        [one] Scelga una sessione.
       *[other] Scelga { $needed } sessioni.
    }
failed = Non è stato possibile chiudere tutte le sessioni. Riprovi.
continue-title = Un momento
continue-text = Sta per tornare all’accesso.
continue = Continua
stopped-title = Questa pagina non può essere utilizzata
invalid = L’indirizzo di questa pagina non è valido. Torni all’applicazione e acceda di nuovo.
expired = Questa pagina è scaduta. Torni all’applicazione e acceda di nuovo.
elsewhere = Questa pagina è stata aperta in un altro browser o in un’altra finestra. Torni all’applicazione e acceda di nuovo.
done = Questa pagina è già stata utilizzata. Continui, oppure torni all’applicazione e acceda di nuovo.
worn-out = Questa pagina è stata utilizzata troppe volte. Torni all’applicazione e acceda di nuovo.
impossible = Al momento nessuna delle Sue sessioni può essere chiusa. Esca dall’altro dispositivo e riprovi.
unavailable = Al momento non è possibile mostrare le Sue sessioni. Riprovi.
retry = Riprova
