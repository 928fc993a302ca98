# The texts of the page on which a person chooses sessions to end. Every other language has the same messages.
title = You are already signed in elsewhere
intro =
    { $needed ->
        [one] To sign in here, end one of your other sessions.
       *[other] To sign in here, end { $needed } of your other sessions.
    }
intro-marked =
    { $marked ->
        [one] At least one of them must be marked “{ mark }”.
       *[other] At least { $marked } of them must be marked “{ mark }”.
    }
mark = This application
legend = Your sessions
device = { $browser } on { $system }
unknown-browser = Unknown browser
unknown-device = Unknown device
last-used = Last used { $ago }
began = Signed in { $ago }
now = just now
minutes-ago =
    { $count ->
        [one] 1 minute ago
       *[other] { $count } minutes ago
    }
hours-ago =
    { $count ->
        [one] 1 hour ago
       *[other] { $count } hours ago
    }
days-ago =
    { $count ->
        [one] 1 day ago
       *[other] { $count } days ago
    }
hidden =
    { $count ->
        [one] One more session is not shown.
       *[other] { $count } more sessions are not shown.
    }
end = End and sign in
cancel = Cancel
unfit =
    { $needed ->
        [one] Please choose one session.
       *[other] Please choose { $needed } sessions.
    }
failed = Not every session could be ended. Please try again.
continue-title = One moment
continue-text = You are taken back to the sign-in.
continue = Continue
stopped-title = This page cannot be used
invalid = The address of this page is not valid. Please go back to the application and sign in again.
expired = This page has expired. Please go back to the application and sign in again.
elsewhere = This page was opened in another browser or another window. Please go back to the application and sign in again.
done = This page was already used. Please continue, or go back to the application and sign in again.
worn-out = This page was used too often. Please go back to the application and sign in again.
impossible = None of your sessions can be ended now. Please sign out on your other device and try again.
unavailable = Your sessions cannot be shown at the moment. Please try again.
retry = Try again
