//! A route of a service: a method and a path, and what its callers need. `taskfence init` writes a rule for each.

use std::cmp::Ordering;

use taskfence_core::config::problem::Problem;

/// What messages and comments call an example of a route.
pub const EXAMPLE: &str = "GET /v1/orders/{order} orders.read";

/// A route of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The name of its rule.
    pub name: String,
    /// Its methods; every method if empty.
    pub methods: Vec<String>,
    /// Its hosts; every host if empty.
    pub hosts: Vec<String>,
    /// Its path, as rules write it.
    pub path: String,
    /// What its callers need.
    pub access: Access,
    /// What its rule does not say, for a comment.
    pub note: Option<String>,
    /// Whether its path was made wider: see [`Route::widen`].
    pub is_wider: bool,
}

/// What the callers of a route need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Anonymous,
    /// A token with scope values.
    Token(Scopes),
}

/// Scope values: all of `all`, and one of `any` if there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    pub all: Vec<String>,
    pub any: Vec<String>,
}

impl Access {
    /// What callers need who need both. Of two choices the first one is kept.
    fn and(&self, other: &Access) -> Access {
        match (self, other) {
            (Access::Anonymous, needed) | (needed, Access::Anonymous) => needed.clone(),
            (Access::Token(one), Access::Token(other)) => {
                let more = other.all.iter().filter(|scope| !one.all.contains(scope));
                let any = if one.any.is_empty() { &other.any } else { &one.any };
                Access::Token(Scopes { all: one.all.iter().chain(more).cloned().collect(), any: any.clone() })
            }
        }
    }
}

impl Route {
    /// Reads a line such as [`EXAMPLE`]: methods, separated by commas, unless every method is meant; the path, or a URL;
    /// the scope values that are needed, or `anonymous`.
    ///
    /// The error is what is wrong with the line.
    pub fn parse(line: &str) -> Result<Route, String> {
        let mut words = line.split_whitespace().peekable();
        let first = words.next_if(|word| !is_place(word));
        let methods: Vec<String> = first.map_or(Ok(Vec::new()), methods)?;
        let place = words.next().filter(|word| is_place(word));
        let place = place.ok_or_else(|| format!("`{line}` has no path; write a route like `{EXAMPLE}`"))?;
        let (hosts, path) = match place.split_once("://") {
            None => (Vec::new(), place.to_owned()),
            Some((_, rest)) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                (vec![host.to_owned()], format!("/{path}"))
            }
        };
        let rest: Vec<String> = words.map(str::to_owned).collect();
        let access = match rest.as_slice() {
            [word] if word == "anonymous" => Access::Anonymous,
            _ => Access::Token(Scopes { all: rest, any: Vec::new() }),
        };
        let name = name_of(&methods, &path);
        Ok(Route { name, methods, hosts, path, access, note: None, is_wider: false })
    }

    /// All of a service, with any token.
    pub fn everything() -> Route {
        let path = "/{path...}".to_owned();
        let note =
            Some("Every request with a good token, whatever its task: write a rule for each route instead.".to_owned());
        let access = Access::Token(Scopes::default());
        Route {
            name: "everything".to_owned(),
            methods: Vec::new(),
            hosts: Vec::new(),
            path,
            access,
            note,
            is_wider: false,
        }
    }

    /// Makes each segment that is more than one capture a capture of the whole segment, and notes it. Returns whether
    /// there was one.
    pub fn widen(&mut self) -> bool {
        let segment = |part: &str| match weight(part) {
            1 => format!("{{{}}}", slug(part).replace('-', "_")),
            _ => part.to_owned(),
        };
        let wide = self.path.split('/').map(segment).collect::<Vec<_>>().join("/");
        if wide == self.path {
            return false;
        }
        self.note = Some(format!("wider than `{}`, which no rule can say", self.path));
        self.path = wide;
        self.is_wider = true;
        true
    }

    /// Whether it matches the same requests.
    fn matches_like(&self, other: &Route) -> bool {
        let shape = |route: &Route| {
            route.path.split('/').map(|part| if weight(part) == 2 { "{}" } else { part }.to_owned()).collect::<Vec<_>>()
        };
        self.methods == other.methods && self.hosts == other.hosts && shape(self) == shape(other)
    }

    /// Reads a file of routes, one a line. Empty lines and lines that begin with `#` say nothing.
    pub fn parse_file(text: &str) -> Result<Vec<Route>, Vec<Problem>> {
        let (mut routes, mut problems) = (Vec::new(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Route::parse(line) {
                Ok(route) => routes.push(route),
                Err(message) => problems.push(Problem::at(format!("line {}", at.saturating_add(1)), message)),
            }
        }
        if problems.is_empty() { Ok(routes) } else { Err(problems) }
    }
}

/// Drops each route that was made wider and now matches what another one matches. The other says so, and asks for what
/// both need: in shadow mode a rule that asks for too much is noticed, and one that asks for too little is not.
pub fn merge(routes: &mut Vec<Route>) {
    let all = routes.clone();
    routes.retain(|route| !(route.is_wider && all.iter().any(|other| !other.is_wider && other.matches_like(route))));
    for dropped in all.iter().filter(|route| route.is_wider) {
        let kept = routes.iter_mut().find(|route| !route.is_wider && route.matches_like(dropped));
        if let (Some(kept), Some(note)) = (kept, &dropped.note) {
            kept.note = Some(note.clone());
            kept.access = kept.access.and(&dropped.access);
        }
    }
}

/// Orders routes so that no rule stands before a narrower one, and gives each a name of its own.
pub fn arrange(routes: &mut [Route]) {
    routes.sort_by(narrower_first);
    let mut taken = std::collections::BTreeSet::new();
    for route in routes {
        let mut name = route.name.clone();
        let mut number = 2_u32;
        while !taken.insert(name.clone()) {
            name = format!("{}-{number}", route.name);
            number = number.saturating_add(1);
        }
        route.name = name;
    }
}

/// A name for the rule of a route that has none.
pub fn name_of(methods: &[String], path: &str) -> String {
    slug(&format!("{} {path}", methods.join(" ")))
}

/// `text` as a name: lower-case words with `-` between them.
pub fn slug(text: &str) -> String {
    let mut name = String::new();
    let mut before = ' ';
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            if c.is_ascii_uppercase() && before.is_ascii_lowercase() && !name.ends_with('-') {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        before = c;
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { "root".to_owned() } else { name.to_owned() }
}

fn is_place(word: &str) -> bool {
    word.starts_with('/') || word.contains("://")
}

fn methods(word: &str) -> Result<Vec<String>, String> {
    let is_method = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
    let methods: Vec<&str> = word.split(',').collect();
    if let Some(bad) = methods.iter().find(|method| !is_method(method)) {
        return Err(format!("`{bad}` is neither a method nor a path; write a route like `{EXAMPLE}`"));
    }
    Ok(methods.iter().map(|method| method.to_ascii_uppercase()).collect())
}

/// A literal segment before one with a capture in it, before a whole capture, before all that is left; one host before
/// every host, one method before every method.
fn narrower_first(a: &Route, b: &Route) -> Ordering {
    let (left, right) = (a.path.split('/').map(weight), b.path.split('/').map(weight));
    let every = |list: &[String]| list.is_empty();
    left.cmp(right)
        .then_with(|| a.path.cmp(&b.path))
        .then_with(|| every(&a.hosts).cmp(&every(&b.hosts)))
        .then_with(|| every(&a.methods).cmp(&every(&b.methods)))
}

fn weight(segment: &str) -> u8 {
    match segment {
        _ if segment.ends_with("...}") => 3,
        _ if segment.starts_with('{') && segment.find('}') == segment.len().checked_sub(1) => 2,
        _ if segment.contains('{') => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(all: &[&str]) -> Access {
        Access::Token(Scopes { all: all.iter().map(|scope| (*scope).to_owned()).collect(), any: Vec::new() })
    }

    #[test]
    fn a_line_says_methods_path_and_scope() {
        let route = Route::parse("GET,head https://orders.mesh/v1/orders/{order} orders.read orders.list").unwrap();
        assert_eq!(route.methods, ["GET", "HEAD"]);
        assert_eq!(route.hosts, ["orders.mesh"]);
        assert_eq!(route.path, "/v1/orders/{order}");
        assert_eq!(route.access, token(&["orders.read", "orders.list"]));
        assert_eq!(route.name, "get-head-v1-orders-order");
        let route = Route::parse("/healthz anonymous").unwrap();
        assert_eq!((route.methods.len(), route.access), (0, Access::Anonymous));
        assert_eq!(Route::parse("https://orders.mesh").unwrap().path, "/");
    }

    #[test]
    fn a_bad_line_is_named() {
        for (line, word) in [("GET", "has no path"), ("G=T /", "`G=T`"), ("GET orders", "has no path")] {
            let message = Route::parse(line).unwrap_err();
            assert!(message.contains(word) && message.contains(EXAMPLE), "{message}");
        }
        let problems = Route::parse_file("# ours\n\nGET /a\nGET\n/b x\nPUT,\n").unwrap_err();
        let places: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(places, ["line 4", "line 6"]);
    }

    #[test]
    fn narrower_routes_come_first_and_names_differ() {
        let lines = ["GET /{all...}", "GET /a/{x}", "GET /a/b", "GET /a/{x}.pdf", "/a/b", "GET https://h/a/b"];
        let mut routes: Vec<Route> = lines.iter().map(|line| Route::parse(line).unwrap()).collect();
        arrange(&mut routes);
        let order: Vec<String> =
            routes.iter().map(|r| format!("{}{}{}", r.methods.join(""), r.hosts.join(""), r.path)).collect();
        assert_eq!(order, ["GETh/a/b", "GET/a/b", "/a/b", "GET/a/{x}.pdf", "GET/a/{x}", "GET/{all...}"]);
        let mut names: Vec<&String> = routes.iter().map(|route| &route.name).collect();
        names.dedup();
        assert_eq!(names.len(), routes.len());
    }

    #[test]
    fn a_segment_of_several_captures_is_made_wider() {
        let mut route = Route::parse("/a/{x}-{y}/{z}").unwrap();
        assert!(route.widen());
        assert_eq!(route.path, "/a/{x_y}/{z}");
        assert!(route.note.as_ref().unwrap().contains("`/a/{x}-{y}/{z}`"));
        assert!(!route.widen());
    }

    #[test]
    fn a_route_that_takes_in_another_asks_for_what_both_need() {
        let merged = |kept: &str, dropped: &str| {
            let mut routes = vec![Route::parse(kept).unwrap(), Route::parse(dropped).unwrap()];
            assert!(routes[1].widen());
            merge(&mut routes);
            let [route] = routes.as_slice() else { panic!("one route") };
            assert!(route.note.is_some());
            route.access.clone()
        };
        assert_eq!(merged("/o/{id} read", "/o/{a}-{b} read admin"), token(&["read", "admin"]));
        assert_eq!(merged("/o/{id} anonymous", "/o/{a}-{b} admin"), token(&["admin"]));
        assert_eq!(merged("/o/{id} read", "/o/{a}-{b} anonymous"), token(&["read"]));
    }

    #[test]
    fn names_are_words() {
        assert_eq!(slug("getOrderById"), "get-order-by-id");
        assert_eq!(slug("GET /v1/{id}:cancel"), "get-v1-id-cancel");
        assert_eq!(slug("//"), "root");
    }
}
