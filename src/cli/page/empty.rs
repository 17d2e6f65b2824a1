//! A report without grants: what is empty, and why that can be.

use taskfence_hub::evidence::report::Report;

use super::html::Html;

/// Writes the section that stands in place of all measures.
pub fn explain(html: &mut Html, report: &Report) {
    html.markup(
        "<section id=\"summary\">\n<h2>No grants</h2>\n\
         <p class=\"box warn\">The hub knows no grant that was used, issued or ended in this window, so there is nothing to \
         measure: no widths, no repeats, no residuals and no sharing. That can be right, and it can have one of these \
         reasons.</p>\n<ul>\n\
         <li>No request with a verified token came through a proxy of this feed. <code>taskfence status</code> names its \
         proxies.</li>\n\
         <li>The proxies do not count: <code>evidence.uses</code> is <code>false</code> in their configuration, or they are \
         older than the evidence. Without <code>signals.hub</code> a filter counts nothing.</li>\n\
         <li>What they counted does not reach the hub: see <code>taskfence_hub_evidence_batches_total</code>, and the log of a \
         proxy.</li>\n\
         <li>The window lies before the first day that the hub keeps (<code>evidence.days</code> and \
         <code>evidence.mib</code> of its configuration), or a proxy has not handed over its first period yet.</li>\n\
         <li>The feed is another one than you meant: this is ",
    );
    html.data(&report.feed);
    html.markup(".</li>\n</ul>\n</section>\n");
}
