//! The page of a violation.

use kontiki_sim::linearizability::{Budget, Verdict, check};
use kontiki_sim::timeline::html;

use crate::linearizability::history;

/// Written anew by `KONTIKI_REWRITE=1`; the difference is looked at in a browser.
#[test]
fn a_stale_read_looks_as_it_did() {
    let history = history(
        "1..3 SET cart <empty> = OK
         4..9 SET cart apples = OK
         5..7 GET cart = <empty>
         6..11 APPEND cart ,pears = :12
         8.. SET cart bread NX
         10..12 GET cart = apples,pears
         13..15 SET cart milk = OK
         14..18 SET other x = OK
         16..19 GET cart = milk
         17..20 GET cart = apples,pears
         21..22 GET cart = milk",
    );
    let Verdict::Violation(violation) = check(&history, &Budget::default()) else {
        panic!("the stale read is not found")
    };
    assert_eq!(violation.stuck, [9]);
    let page = html(&history, &violation);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/timeline/stale_read.html");
    if std::env::var_os("KONTIKI_REWRITE").is_some() {
        std::fs::write(file, &page).expect("the file");
    }
    let expected = std::fs::read_to_string(file).expect("the file");
    assert!(page == expected, "the page has changed; KONTIKI_REWRITE=1 writes it anew");
    for said in [
        "was answered <strong>&quot;apples,pears&quot;</strong>",
        "<code>cart = &quot;milk&quot;</code>",
        "was last there before operation #6, <code>SET cart milk</code> by client 7, which returned \
         2.000 ms before this read was called",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(!page.contains("<script") && !page.contains("<empty>"));
}
