//! The built-in sentences that a blocked user reads, in twelve languages.
//!
//! One block is one language, and its sentences come in the order of [`MessageKind`]. A change of the English block is made in
//! all of them. No sentence names a person, a session, or Auth0, and none says more than the user can act on.

/// The texts for blocked logins, one for each kind of reason. A user who is told of another device while Auth0 is down would
/// look for something that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// The login is over a limit.
    LimitExceeded,
    /// The check could not be decided.
    Unavailable,
    /// The login has no session.
    NoSession,
    /// The session was revoked in favour of another.
    SessionRevoked,
    /// The service has a defect.
    InternalError,
}

impl MessageKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::LimitExceeded, Self::Unavailable, Self::NoSession, Self::SessionRevoked, Self::InternalError];
}

/// The languages, English first: it is used where no other one fits. `zh` is written in simplified characters.
const LANGUAGES: [(&str, [&str; MessageKind::ALL.len()]); 12] = [
    (
        "en",
        [
            "You are already signed in elsewhere. Sign out there and try again.",
            "Your sessions could not be checked. Please try again in a moment.",
            "You cannot sign in this way. Please use the sign-in page.",
            "This session was ended because you signed in elsewhere. Please sign in again.",
            "Something went wrong. Please try again in a moment.",
        ],
    ),
    (
        "de",
        [
            "Sie sind bereits an anderer Stelle angemeldet. Bitte melden Sie sich dort ab und versuchen Sie es erneut.",
            "Ihre Sitzungen konnten nicht geprüft werden. Bitte versuchen Sie es in einem Moment erneut.",
            "Auf diesem Weg können Sie sich nicht anmelden. Bitte verwenden Sie die Anmeldeseite.",
            "Diese Sitzung wurde beendet, weil Sie sich an anderer Stelle angemeldet haben. Bitte melden Sie sich erneut an.",
            "Es ist ein Fehler aufgetreten. Bitte versuchen Sie es in einem Moment erneut.",
        ],
    ),
    (
        "fr",
        [
            "Votre compte est déjà connecté ailleurs. Veuillez vous y déconnecter, puis réessayer.",
            "Vos sessions n’ont pas pu être vérifiées. Veuillez réessayer dans un instant.",
            "Vous ne pouvez pas vous connecter de cette façon. Veuillez utiliser la page de connexion.",
            "Cette session a été fermée, car votre compte s’est connecté ailleurs. Veuillez vous reconnecter.",
            "Une erreur s’est produite. Veuillez réessayer dans un instant.",
        ],
    ),
    (
        "es",
        [
            "Ya ha iniciado sesión en otro lugar. Cierre allí la sesión e inténtelo de nuevo.",
            "No se han podido comprobar sus sesiones. Inténtelo de nuevo en unos instantes.",
            "No puede iniciar sesión de esta forma. Utilice la página de inicio de sesión.",
            "Esta sesión se ha cerrado porque ha iniciado sesión en otro lugar. Inicie sesión de nuevo.",
            "Se ha producido un error. Inténtelo de nuevo en unos instantes.",
        ],
    ),
    (
        "it",
        [
            "Ha già effettuato l’accesso altrove. Esca da quella sessione e riprovi.",
            "Non è stato possibile verificare le Sue sessioni. Riprovi tra qualche istante.",
            "Non è possibile accedere in questo modo. Utilizzi la pagina di accesso.",
            "Questa sessione è stata chiusa perché ha effettuato l’accesso altrove. Acceda di nuovo.",
            "Si è verificato un errore. Riprovi tra qualche istante.",
        ],
    ),
    (
        "pt",
        [
            "Já existe uma sessão iniciada com a sua conta em outro local. Encerre essa sessão e tente novamente.",
            "Não foi possível verificar as suas sessões. Tente novamente dentro de instantes.",
            "Não é possível iniciar sessão desta forma. Utilize a página de início de sessão.",
            "Esta sessão foi encerrada porque a sua conta iniciou sessão em outro local. Inicie sessão novamente.",
            "Ocorreu um erro. Tente novamente dentro de instantes.",
        ],
    ),
    (
        "nl",
        [
            "U bent al ergens anders aangemeld. Meld u daar af en probeer het opnieuw.",
            "Uw sessies konden niet worden gecontroleerd. Probeer het over een ogenblik opnieuw.",
            "U kunt zich niet op deze manier aanmelden. Gebruik de aanmeldpagina.",
            "Deze sessie is beëindigd omdat u zich ergens anders hebt aangemeld. Meld u opnieuw aan.",
            "Er is iets misgegaan. Probeer het over een ogenblik opnieuw.",
        ],
    ),
    (
        "pl",
        [
            "To konto jest już zalogowane w innym miejscu. Wyloguj się tam i spróbuj ponownie.",
            "Nie udało się sprawdzić Twoich sesji. Spróbuj ponownie za chwilę.",
            "Nie można zalogować się w ten sposób. Skorzystaj ze strony logowania.",
            "Ta sesja została zakończona, ponieważ zalogowano się w innym miejscu. Zaloguj się ponownie.",
            "Wystąpił błąd. Spróbuj ponownie za chwilę.",
        ],
    ),
    (
        "sv",
        [
            "Du är redan inloggad någon annanstans. Logga ut där och försök igen.",
            "Dina sessioner kunde inte kontrolleras. Försök igen om en stund.",
            "Du kan inte logga in på det här sättet. Använd inloggningssidan.",
            "Den här sessionen avslutades eftersom du loggade in någon annanstans. Logga in igen.",
            "Något gick fel. Försök igen om en stund.",
        ],
    ),
    (
        "da",
        [
            "Du er allerede logget ind et andet sted. Log ud dér, og prøv igen.",
            "Dine sessioner kunne ikke kontrolleres. Prøv igen om et øjeblik.",
            "Du kan ikke logge ind på denne måde. Brug loginsiden.",
            "Denne session blev afsluttet, fordi du loggede ind et andet sted. Log ind igen.",
            "Noget gik galt. Prøv igen om et øjeblik.",
        ],
    ),
    (
        "ja",
        [
            "すでに別の場所でサインインしています。そちらでサインアウトしてから、もう一度お試しください。",
            "セッションを確認できませんでした。しばらくしてから、もう一度お試しください。",
            "この方法ではサインインできません。サインインページをご利用ください。",
            "別の場所でサインインしたため、このセッションは終了しました。もう一度サインインしてください。",
            "エラーが発生しました。しばらくしてから、もう一度お試しください。",
        ],
    ),
    (
        "zh",
        [
            "您已在其他位置登录。请先在该处退出登录，然后重试。",
            "无法检查您的会话。请稍后重试。",
            "您无法通过此方式登录。请使用登录页面。",
            "由于您在其他位置登录，此会话已结束。请重新登录。",
            "出现错误。请稍后重试。",
        ],
    ),
];

/// The sentence in a language; `None` when there is none in it.
pub(super) fn sentence(language: &str, kind: MessageKind) -> Option<&'static str> {
    let found = LANGUAGES.iter().find(|(name, _)| name.eq_ignore_ascii_case(language))?;
    Some(found.1[kind as usize])
}

/// The sentence in English.
pub(super) fn english(kind: MessageKind) -> &'static str {
    LANGUAGES[0].1[kind as usize]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_language_has_short_and_different_sentences() {
        let mut all = BTreeSet::new();
        for (language, sentences) in LANGUAGES {
            for sentence in sentences {
                assert!(sentence.ends_with(['.', '。']), "{language}: {sentence}");
                assert_eq!(sentence, sentence.trim(), "{language}");
                assert!(
                    !sentence.contains(['\'', '"', '<', '\n']) && sentence.chars().count() <= 120,
                    "{language}: {sentence}"
                );
                assert!(all.insert(sentence), "{language}: {sentence}");
            }
        }
        let languages: BTreeSet<&str> = LANGUAGES.iter().map(|(language, _)| *language).collect();
        assert_eq!(languages.len(), 12);
    }

    #[test]
    fn languages_without_latin_letters_have_none() {
        for language in ["ja", "zh"] {
            for kind in MessageKind::ALL {
                let sentence = sentence(language, kind).unwrap();
                assert!(!sentence.chars().any(|c| c.is_ascii_alphabetic()), "{sentence}");
            }
        }
    }
}
