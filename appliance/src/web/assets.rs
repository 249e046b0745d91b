//! Style, script and icon: in the program itself, and named by their hash, so that a browser keeps them for good.

use std::sync::OnceLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::visitor::Path;

/// Hexadecimal digits of a hash that stand in an address.
const DIGITS: usize = 12;

/// A file.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ALL: [Asset; 5] = [
    Asset { name: "page.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("assets/page.css") },
    Asset { name: "dataset.css", kind: "text/css; charset=utf-8", bytes: include_bytes!("assets/dataset.css") },
    Asset { name: "page.js", kind: "text/javascript; charset=utf-8", bytes: include_bytes!("assets/page.js") },
    Asset { name: "week.js", kind: "text/javascript; charset=utf-8", bytes: include_bytes!("assets/week.js") },
    Asset { name: "icon.svg", kind: "image/svg+xml", bytes: include_bytes!("assets/icon.svg") },
];

fn hashes() -> &'static [String] {
    static HASHES: OnceLock<Vec<String>> = OnceLock::new();
    HASHES.get_or_init(|| ALL.iter().map(|asset| blake3::hash(asset.bytes).to_hex()[..DIGITS].to_owned()).collect())
}

/// Where a file is found.
pub(super) fn path(name: &str) -> String {
    let place = ALL.iter().position(|asset| asset.name == name);
    debug_assert!(place.is_some(), "there is no {name}");
    format!("/assets/{}/{name}", place.map_or("", |place| hashes()[place].as_str()))
}

/// Answers with a file. One that was replaced meanwhile is not there any more.
pub(super) async fn serve(Path((hash, name)): Path<(String, String)>) -> Response {
    let found = ALL.iter().zip(hashes()).find(|(asset, known)| asset.name == name && **known == hash);
    let Some((asset, _)) = found else { return StatusCode::NOT_FOUND.into_response() };
    let mut response = asset.bytes.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    /// How far apart two colours are (WCAG 2.2, "contrast ratio").
    fn contrast(a: &str, b: &str) -> f64 {
        let light = |color: &str| {
            let part = |at: usize| {
                let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).expect("a colour")) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
        };
        let (a, b) = (light(a), light(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_text_can_be_read_on_its_ground_by_day_and_by_night() {
        let style = include_str!("assets/page.css");
        let texts = [
            ("ink", "ground sheet code good-tint warn-tint bad-tint busy-tint still-tint"),
            ("soft", "ground sheet code"),
            ("link", "ground sheet tint"),
            ("main-ink", "main main-deep"),
            ("good", "good-tint"),
            ("busy", "busy-tint"),
            ("warn", "warn-tint ground"),
            ("bad", "bad-tint sheet ground"),
            ("still", "still-tint"),
        ];
        let schemes: Vec<&str> = style.split(":root {").skip(1).collect();
        assert_eq!(schemes.len(), 2, "light and dark");
        for scheme in schemes {
            let colors = scheme[..scheme.find('}').expect("its end")]
                .split(';')
                .filter_map(|line| line.trim().split_once(": #"));
            let colors: HashMap<&str, String> = colors.map(|(name, color)| (&name[2..], format!("#{color}"))).collect();
            for (text, ground) in
                texts.iter().flat_map(|(text, grounds)| grounds.split(' ').map(move |ground| (*text, ground)))
            {
                let ratio = contrast(&colors[text], &colors[ground]);
                assert!(ratio >= 4.5, "{text} on {ground}: {ratio:.2}");
            }
            for (edge, ground) in [("edge", "sheet"), ("edge", "ground"), ("busy", "sheet"), ("busy", "ground")] {
                assert!(contrast(&colors[edge], &colors[ground]) >= 3.0, "{edge} on {ground}");
            }
        }
    }
}
