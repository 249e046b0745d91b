//! A text as a picture for a telephone's camera (QR code): as SVG that stands in the page itself, or as blocks for a terminal.

use std::fmt::Write;

use qrcode::{Color, QrCode};

/// Light squares around, as the standard wants them.
const MARGIN: usize = 4;

/// The picture; `None` where the text is too long for one. Dark on light whatever the page's colours: cameras want it so.
pub(crate) fn svg(text: &str, label: &str) -> Option<String> {
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

/// The picture in half blocks, two rows of squares a line, for a terminal; `None` where the text is too long for one. Light squares are drawn, for terminals
/// are dark, as most consoles are; cameras read the other way round just as well.
pub(crate) fn blocks(text: &str) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    let (width, squares) = (code.width(), code.to_colors());
    let side = width + 2 * MARGIN;
    let light = |x: usize, y: usize| {
        let inside = (MARGIN..MARGIN + width).contains(&x) && (MARGIN..MARGIN + width).contains(&y);
        !inside || squares[(y - MARGIN) * width + x - MARGIN] == Color::Light
    };
    let half = |x: usize, y: usize| match (light(x, y), y + 1 < side && light(x, y + 1)) {
        (true, true) => '█',
        (true, false) => '▀',
        (false, true) => '▄',
        (false, false) => ' ',
    };
    let lines = (0..side).step_by(2).map(|y| (0..side).map(|x| half(x, y)).collect::<String>());
    Some(lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_squares_of_the_code() {
        let text = "https://192.0.2.2/#c=K7QF-2M9D-XW4T-8HJC";
        let drawn = blocks(text).expect("short enough");
        let rows: Vec<Vec<char>> = drawn.lines().map(|line| line.chars().collect()).collect();
        let code = QrCode::new(text).expect("short enough");
        let side = code.width() + 2 * MARGIN;
        assert!(rows.iter().all(|row| row.len() == side) && rows.len() == side.div_ceil(2));
        for (place, color) in code.to_colors().into_iter().enumerate() {
            let (x, y) = (place % code.width() + MARGIN, place / code.width() + MARGIN);
            let light = matches!((rows[y / 2][x], y % 2), ('█', _) | ('▀', 0) | ('▄', 1));
            assert_eq!(light, color == Color::Light, "{x} {y}");
        }
        assert_eq!(blocks(&"x".repeat(5000)), None);
    }

    #[test]
    fn a_picture_holds_no_text() {
        let picture = svg("otpauth://totp/<script>?secret=ABC", "A label").expect("short enough");
        assert!(
            picture.starts_with("<svg") && picture.contains("aria-label=\"A label\"") && !picture.contains("script")
        );
        assert_eq!(svg(&"x".repeat(5000), ""), None);
    }
}
