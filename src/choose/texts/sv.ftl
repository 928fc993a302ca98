title = Du är redan inloggad någon annanstans
intro =
    { $needed ->
        [one] Avsluta en av dina andra sessioner för att logga in här.
       *[other] Avsluta { $needed } av dina andra sessioner för att logga in här.
    }
intro-marked =
    { $marked ->
        [one] Minst en av dem måste vara märkt med ”{ mark }”.
       *[other] Minst { $marked } av dem måste vara märkta med ”{ mark }”.
    }
mark = Den här applikationen
legend = Dina sessioner
device = { $browser } på { $system }
unknown-browser = Okänd webbläsare
unknown-device = Okänd enhet
last-used = Senast använd: { $ago }
began = Inloggad: { $ago }
now = alldeles nyss
minutes-ago =
    { $count ->
        [one] för 1 minut sedan
       *[other] för { $count } minuter sedan
    }
hours-ago =
    { $count ->
        [one] för 1 timme sedan
       *[other] för { $count } timmar sedan
    }
days-ago =
    { $count ->
        [one] för 1 dag sedan
       *[other] för { $count } dagar sedan
    }
hidden =
    { $count ->
        [one] Ytterligare en session visas inte.
       *[other] Ytterligare { $count } sessioner visas inte.
    }
end = Avsluta och logga in
cancel = Avbryt
unfit =
    { $needed ->
        [one] Välj en session.
       *[other] Välj { $needed } sessioner.
    }
failed = Alla sessioner kunde inte avslutas. Försök igen.
continue-title = Ett ögonblick
continue-text = Du kommer tillbaka till inloggningen.
continue = Fortsätt
stopped-title = Den här sidan kan inte användas
invalid = Sidans adress är ogiltig. Gå tillbaka till applikationen och logga in igen.
expired = Sidan har gått ut. Gå tillbaka till applikationen och logga in igen.
elsewhere = Sidan har öppnats i en annan webbläsare eller ett annat fönster. Gå tillbaka till applikationen och logga in igen.
done = Sidan har redan använts. Fortsätt, eller gå tillbaka till applikationen och logga in igen.
worn-out = Sidan har använts för många gånger. Gå tillbaka till applikationen och logga in igen.
impossible = Ingen av dina sessioner kan avslutas just nu. Logga ut på din andra enhet och försök igen.
unavailable = Dina sessioner kan inte visas just nu. Försök igen.
retry = Försök igen
