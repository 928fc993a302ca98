title = Votre compte est déjà connecté ailleurs
intro =
    { $needed ->
        [one] Pour vous connecter ici, fermez une de vos autres sessions.
       *[other] Pour vous connecter ici, fermez { $needed } de vos autres sessions.
    }
intro-marked =
    { $marked ->
        [one] Au moins une d’entre elles doit porter la mention « { mark } ».
       *[other] Au moins { $marked } d’entre elles doivent porter la mention « { mark } ».
    }
mark = Cette application
legend = Vos sessions
device = { $browser } sous { $system }
unknown-browser = Navigateur inconnu
unknown-device = Appareil inconnu
last-used = Dernière utilisation : { $ago }
began = Connexion : { $ago }
now = à l’instant
minutes-ago =
    { $count ->
        [one] il y a { $count } minute
       *[other] il y a { $count } minutes
    }
hours-ago =
    { $count ->
        [one] il y a { $count } heure
       *[other] il y a { $count } heures
    }
days-ago =
    { $count ->
        [one] il y a { $count } jour
       *[other] il y a { $count } jours
    }
hidden =
    { $count ->
        [one] Une autre session n’est pas affichée.
       *[other] { $count } autres sessions ne sont pas affichées.
    }
end = Fermer et se connecter
cancel = Annuler
unfit =
    { $needed ->
        [one] Veuillez choisir une session.
       *[other] Veuillez choisir { $needed } sessions.
    }
failed = Toutes les sessions n’ont pas pu être fermées. Veuillez réessayer.
continue-title = Un instant
continue-text = Vous allez revenir à la connexion.
continue = Continuer
stopped-title = Cette page ne peut pas être utilisée
invalid = L’adresse de cette page n’est pas valide. Veuillez revenir à l’application et vous reconnecter.
expired = Cette page a expiré. Veuillez revenir à l’application et vous reconnecter.
elsewhere = Cette page a été ouverte dans un autre navigateur ou une autre fenêtre. Veuillez revenir à l’application et vous reconnecter.
done = Cette page a déjà été utilisée. Veuillez continuer, ou revenir à l’application et vous reconnecter.
worn-out = Cette page a été utilisée trop souvent. Veuillez revenir à l’application et vous reconnecter.
impossible = Aucune de vos sessions ne peut être fermée pour le moment. Veuillez vous déconnecter sur votre autre appareil, puis réessayer.
unavailable = Vos sessions ne peuvent pas être affichées pour le moment. Veuillez réessayer.
retry = Réessayer
