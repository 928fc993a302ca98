title = Sie sind bereits an anderer Stelle angemeldet
intro =
    { $needed ->
        [one] Um sich hier anzumelden, beenden Sie eine Ihrer anderen Sitzungen.
       *[other] Um sich hier anzumelden, beenden Sie { $needed } Ihrer anderen Sitzungen.
    }
intro-marked =
    { $marked ->
        [one] Mindestens eine davon muss mit „{ mark }“ gekennzeichnet sein.
       *[other] Mindestens { $marked } davon müssen mit „{ mark }“ gekennzeichnet sein.
    }
mark = Diese Anwendung
legend = Ihre Sitzungen
device = { $browser } unter { $system }
unknown-browser = Unbekannter Browser
unknown-device = Unbekanntes Gerät
last-used = Zuletzt verwendet: { $ago }
began = Angemeldet: { $ago }
now = gerade eben
minutes-ago =
    { $count ->
        [one] vor 1 Minute
       *[other] vor { $count } Minuten
    }
hours-ago =
    { $count ->
        [one] vor 1 Stunde
       *[other] vor { $count } Stunden
    }
days-ago =
    { $count ->
        [one] vor 1 Tag
       *[other] vor { $count } Tagen
    }
hidden =
    { $count ->
        [one] Eine weitere Sitzung wird nicht angezeigt.
       *[other] { $count } weitere Sitzungen werden nicht angezeigt.
    }
end = Beenden und anmelden
cancel = Abbrechen
unfit =
    { $needed ->
        [one] Bitte wählen Sie eine Sitzung aus.
       *[other] Bitte wählen Sie { $needed } Sitzungen aus.
    }
failed = Nicht alle Sitzungen konnten beendet werden. Bitte versuchen Sie es erneut.
continue-title = Einen Moment
continue-text = Sie werden zur Anmeldung zurückgeleitet.
continue = Weiter
stopped-title = Diese Seite kann nicht verwendet werden
invalid = Die Adresse dieser Seite ist ungültig. Bitte kehren Sie zur Anwendung zurück und melden Sie sich erneut an.
expired = Diese Seite ist abgelaufen. Bitte kehren Sie zur Anwendung zurück und melden Sie sich erneut an.
elsewhere = Diese Seite wurde in einem anderen Browser oder Fenster geöffnet. Bitte kehren Sie zur Anwendung zurück und melden Sie sich erneut an.
done = Diese Seite wurde bereits verwendet. Bitte fahren Sie fort, oder kehren Sie zur Anwendung zurück und melden Sie sich erneut an.
worn-out = Diese Seite wurde zu oft verwendet. Bitte kehren Sie zur Anwendung zurück und melden Sie sich erneut an.
impossible = Derzeit kann keine Ihrer Sitzungen beendet werden. Bitte melden Sie sich auf Ihrem anderen Gerät ab und versuchen Sie es erneut.
unavailable = Ihre Sitzungen können im Moment nicht angezeigt werden. Bitte versuchen Sie es erneut.
retry = Erneut versuchen
