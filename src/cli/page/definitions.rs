//! What the figures mean, in short. The page `docs/measures.md` has the formulas.

use super::html::Html;

/// Writes the section.
pub fn section(html: &mut Html) {
    html.markup("<section id=\"definitions\">\n<h2>Definitions</h2>\n<dl class=\"terms\">\n");
    for (term, meaning) in TERMS {
        html.element("dt", term);
        html.element("dd", meaning);
        html.markup("\n");
    }
    html.markup(
        "</dl>\n<p>The formulas stand in <code>docs/measures.md</code> of Taskfence, under Width, Repeat, Residual and Sharing; when a \
         repeat is routine or broad, under Thresholds; and how the figures answer OWASP NHI 2025, NIST CSF 2.0, SP 800-207 and \
         the AI RMF, under What it is evidence for. How uses are counted, and what can be missing, stands in \
         <code>docs/evidence.md</code>.</p>\n</section>\n",
    );
}

const TERMS: [(&str, &str); 8] = [
    ("Grant", "One verified access token, known by its issuer and its id. Its uses of all proxies are added up."),
    (
        "Cell",
        "One thing that a grant allows: a rule, an action (or the method where the rule asks for no action) and an identifier.",
    ),
    (
        "Width",
        "The cells that a grant allows against the cells that were used. A grant that names no identifier is unbounded: it has \
         no share, and is counted apart.",
    ),
    (
        "Narrower grant",
        "The scopes, authorization_details (RFC 9396) and rules that would have allowed what was used in this window, and no \
         more. What the task needs at other times is not in it.",
    ),
    (
        "Repeat",
        "Grants of one subject, client and kind with the same scopes and details, identifiers left out. Routine: so often and \
         so regular that it can be foreseen. Broad: unbounded, or less than half of what it allowed was used in the median.",
    ),
    (
        "Residual",
        "The seconds from the end of a task to its last permitted request, or to the end of its last stream. Attempts are \
         requests after the end that were refused.",
    ),
    (
        "Sharing",
        "More than one workload used a grant: more than one URI in client certificates, or, without these, more than one key.",
    ),
    ("Gap", "A span in which a proxy, or one of its workers, went away with uses that it had not handed over."),
];
