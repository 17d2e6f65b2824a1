//! The frame of the page: its head, its title and its contents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use taskfence_core::encoding::digest::sha256;
use taskfence_hub::evidence::report::Report;

use super::figure;
use super::html::Html;

const STYLE: &str = include_str!("style.css");

/// Sorts tables. The page is complete without it.
const SCRIPT: &str = include_str!("sort.js");

/// Writes everything before the first section.
pub fn start(html: &mut Html, report: &Report) {
    html.markup("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.start("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &policy())]);
    html.markup(
        "\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
    );
    html.text(format_args!(
        "Grants of {} from {} to {}",
        report.feed,
        figure::moment(report.since),
        figure::moment(report.until)
    ));
    html.markup("</title>\n<style>");
    html.markup(STYLE);
    html.markup("</style>\n</head>\n<body>\n<header>\n<h1>Grants of ");
    html.data(&report.feed);
    html.markup("</h1>\n<p>From ");
    moment(html, report.since);
    html.markup(" to ");
    moment(html, report.until);
    html.markup(" (UTC), as the hub ");
    html.data(&report.hub);
    html.markup(" has recorded it.</p>\n");
    if report.total.grants > 0 {
        contents(html);
    }
    html.markup("</header>\n<main>\n");
}

/// Writes everything after the last section.
pub fn end(html: &mut Html) {
    html.markup("</main>\n<script>");
    html.markup(SCRIPT);
    html.markup("</script>\n</body>\n</html>\n");
}

/// Nothing but this style and this script: no request, no form, and no other script, should one get into the page.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(sha256(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
}

fn moment(html: &mut Html, at: u64) {
    html.start("time", &[("datetime", &format_args!("{}Z", figure::moment(at).replace(' ', "T")))]);
    html.text(figure::moment(at));
    html.end("time");
}

fn contents(html: &mut Html) {
    html.markup(
        "<nav aria-label=\"Contents\"><a href=\"#summary\">Summary</a> <a href=\"#missing\">What may be missing</a> \
         <a href=\"#measures\">Measures</a> <a href=\"#groups\">By kind, client and subject</a> \
         <a href=\"#repeats\">Repeats</a> <a href=\"#sharing\">Sharing</a> <a href=\"#residuals\">After the end</a> \
         <a href=\"#grants\">Grants and narrower ones</a> <a href=\"#comparison\">Permanent path</a> \
         <a href=\"#definitions\">Definitions</a></nav>\n",
    );
}
