title = U bent al ergens anders aangemeld
intro =
    { $needed ->
        [one] Beëindig een van uw andere sessies om u hier aan te melden.
       *[other] Beëindig { $needed } van uw andere sessies om u hier aan te melden.
    }
intro-marked =
    { $marked ->
        [one] Bij minstens één daarvan moet “{ mark }” staan.
       *[other] Bij minstens { $marked } daarvan moet “{ mark }” staan.
    }
mark = Deze toepassing
legend = Uw sessies
device = { $browser } op { $system }
unknown-browser = Onbekende browser
unknown-device = Onbekend apparaat
last-used = Laatst gebruikt: { $ago }
began = Aangemeld: { $ago }
now = zojuist
minutes-ago =
    { $count ->
        [one] 1 minuut geleden
       *[other] { $count } minuten geleden
    }
hours-ago =
    { $count ->
        [one] 1 uur geleden
       *[other] { $count } uur geleden
    }
days-ago =
    { $count ->
        [one] 1 dag geleden
       *[other] { $count } dagen geleden
    }
hidden =
    { $count ->
        [one] Nog één sessie wordt niet getoond.
       *[other] Nog { $count } sessies worden niet getoond.
    }
end = Beëindigen en aanmelden
cancel = Annuleren
unfit =
    { $needed ->
        [one] Kies één sessie.
       *[other] Kies { $needed } sessies.
    }
failed = Niet alle sessies konden worden beëindigd. Probeer het opnieuw.
continue-title = Een ogenblik
continue-text = U gaat terug naar de aanmelding.
continue = Doorgaan
stopped-title = Deze pagina kan niet worden gebruikt
invalid = Het adres van deze pagina is ongeldig. Ga terug naar de toepassing en meld u opnieuw aan.
expired = Deze pagina is verlopen. Ga terug naar de toepassing en meld u opnieuw aan.
elsewhere = Deze pagina is in een andere browser of een ander venster geopend. Ga terug naar de toepassing en meld u opnieuw aan.
done = Deze pagina is al gebruikt. Ga door, of ga terug naar de toepassing en meld u opnieuw aan.
worn-out = Deze pagina is te vaak gebruikt. Ga terug naar de toepassing en meld u opnieuw aan.
impossible = Geen van uw sessies kan nu worden beëindigd. Meld u af op uw andere apparaat en probeer het opnieuw.
unavailable = Uw sessies kunnen nu niet worden getoond. Probeer het opnieuw.
retry = Opnieuw proberen
