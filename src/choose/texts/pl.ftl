title = Zalogowano się już w innym miejscu
intro =
    { $needed ->
        [one] Aby zalogować się tutaj, zakończ jedną z pozostałych sesji.
        [few] Aby zalogować się tutaj, zakończ { $needed } z pozostałych sesji.
       *[other] Aby zalogować się tutaj, zakończ { $needed } z pozostałych sesji.
    }
intro-marked =
    { $marked ->
        [one] Co najmniej jedna z nich musi mieć oznaczenie „{ mark }”.
        [few] Co najmniej { $marked } z nich muszą mieć oznaczenie „{ mark }”.
       *[other] Co najmniej { $marked } z nich musi mieć oznaczenie „{ mark }”.
    }
mark = Ta aplikacja
legend = Twoje sesje
device = { $browser } w systemie { $system }
unknown-browser = Nieznana przeglądarka
unknown-device = Nieznane urządzenie
last-used = Ostatnie użycie: { $ago }
began = Logowanie: { $ago }
now = przed chwilą
minutes-ago =
    { $count ->
        [one] 1 minutę temu
        [few] { $count } minuty temu
       *[other] { $count } minut temu
    }
hours-ago =
    { $count ->
        [one] 1 godzinę temu
        [few] { $count } godziny temu
       *[other] { $count } godzin temu
    }
days-ago =
    { $count ->
        [one] 1 dzień temu
       *[other] { $count } dni temu
    }
hidden =
    { $count ->
        [one] Jedna sesja nie jest pokazana.
        [few] { $count } sesje nie są pokazane.
       *[other] { $count } sesji nie jest pokazanych.
    }
end = Zakończ i zaloguj się
cancel = Anuluj
unfit =
    { $needed ->
        [one] Wybierz jedną sesję.
        [few] Wybierz { $needed } sesje.
       *[other] Wybierz { $needed } sesji.
    }
failed = Nie udało się zakończyć wszystkich sesji. Spróbuj ponownie.
continue-title = Chwileczkę
continue-text = Nastąpi powrót do logowania.
continue = Dalej
stopped-title = Tej strony nie można użyć
invalid = Adres tej strony jest nieprawidłowy. Wróć do aplikacji i zaloguj się ponownie.
expired = Ta strona wygasła. Wróć do aplikacji i zaloguj się ponownie.
elsewhere = Ta strona została otwarta w innej przeglądarce lub w innym oknie. Wróć do aplikacji i zaloguj się ponownie.
done = Ta strona została już użyta. Przejdź dalej albo wróć do aplikacji i zaloguj się ponownie.
worn-out = Ta strona została użyta zbyt wiele razy. Wróć do aplikacji i zaloguj się ponownie.
impossible = Teraz nie można zakończyć żadnej z sesji. Wyloguj się na drugim urządzeniu i spróbuj ponownie.
unavailable = W tej chwili nie można pokazać sesji. Spróbuj ponownie.
retry = Spróbuj ponownie
