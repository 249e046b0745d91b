//! A text as a picture for a telephone's camera, as SVG that stands in the page itself.

use std::fmt::Write;

use qrcode::{Color, QrCode};

/// Light squares around, as the standard wants them.
const MARGIN: usize = 4;

/// The picture; `None` where the text is too long for one. Dark on light whatever the page's colours: cameras want it so.
pub(super) fn svg(text: &str, label: &str) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    let (width, squares) = (code.width(), code.to_colors());
    let mut path = String::new();
    for (place, _) in squares.iter().enumerate().filter(|(_, color)| **color == Color::Dark) {
        write!(path, "M{} {}h1v1h-1z", place % width + MARGIN, place / width + MARGIN).ok()?;
    }
    let side = width + 2 * MARGIN;
    Some(format!(
        "<svg class=\"qr\" viewBox=\"0 0 {side} {side}\" role=\"img\" aria-label=\"{label}\" shape-rendering=\"crispEdges\">\
         <rect width=\"{side}\" height=\"{side}\" fill=\"#fff\"/><path d=\"{path}\" fill=\"#000\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_holds_no_text() {
        let picture = svg("otpauth://totp/<script>?secret=ABC", "A label").expect("short enough");
        assert!(
            picture.starts_with("<svg") && picture.contains("aria-label=\"A label\"") && !picture.contains("script")
        );
        assert_eq!(svg(&"x".repeat(5000), ""), None);
    }
}
