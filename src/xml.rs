//! Text in XML: in pictures and in reports for CI systems.

/// The text as XML, without the characters that no XML may have.
pub(crate) fn escaped(text: &str) -> String {
    let mut xml = String::new();
    for sign in text.chars() {
        match sign {
            '&' => xml += "&amp;",
            '<' => xml += "&lt;",
            '>' => xml += "&gt;",
            '"' => xml += "&quot;",
            '\n' => xml += "&#10;",
            '\t' => xml.push(' '),
            sign if sign.is_control() || matches!(sign, '\u{fffe}' | '\u{ffff}') => {}
            sign => xml.push(sign),
        }
    }
    xml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_is_escaped_in_xml() {
        assert_eq!(escaped("a<b>&\"c\"\u{1b}[31m\nd"), "a&lt;b&gt;&amp;&quot;c&quot;[31m&#10;d");
    }
}
