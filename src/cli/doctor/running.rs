//! The configuration that an Envoy runs, as one file would say it: listeners with their routes and discovered filters in
//! place, and clusters.

use serde_json::{Value, json};

/// What `/config_dump` shows, as a bootstrap. Listeners that are draining are left out.
pub fn bootstrap(dump: &Value) -> Value {
    let configs = dump.get("configs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let routes: Vec<&Value> = [("static_route_configs", "route_config"), ("dynamic_route_configs", "route_config")]
        .into_iter()
        .flat_map(|(list, member)| items(configs, list).filter_map(move |item| item.get(member)))
        .collect();
    let filters: Vec<&Value> = items(configs, "ecds_filters").filter_map(|item| item.get("ecds_filter")).collect();
    let fixed = items(configs, "static_listeners").filter_map(|item| item.get("listener"));
    let moving = items(configs, "dynamic_listeners").filter_map(|item| item.get("active_state")?.get("listener"));
    let mut listeners: Vec<Value> = fixed.chain(moving).cloned().collect();
    listeners.iter_mut().for_each(|listener| complete(listener, &routes, &filters));
    let clusters: Vec<&Value> = ["static_clusters", "dynamic_active_clusters"]
        .into_iter()
        .flat_map(|list| items(configs, list).filter_map(|item| item.get("cluster")))
        .collect();
    let services = configs.iter().find_map(|config| config.get("bootstrap")?.get("bootstrap_extensions"));
    json!({
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "bootstrap_extensions": services,
    })
}

/// The items of all lists of that name.
fn items<'d>(configs: &'d [Value], list: &'static str) -> impl Iterator<Item = &'d Value> {
    configs.iter().filter_map(move |config| config.get(list)?.as_array()).flatten()
}

/// Puts routes and filters where a listener names them.
fn complete(value: &mut Value, routes: &[&Value], filters: &[&Value]) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|item| complete(item, routes, filters)),
        Value::Object(members) => {
            let wanted = members.get("rds").and_then(|rds| rds.get("route_config_name"));
            if let Some(found) = wanted.and_then(|name| routes.iter().find(|route| route.get("name") == Some(name))) {
                members.insert("route_config".to_owned(), (*found).clone());
                members.remove("rds");
            }
            if members.contains_key("config_discovery")
                && let Some(found) = filters.iter().find(|filter| filter.get("name") == members.get("name"))
                && let Some(config) = found.get("typed_config")
            {
                members.insert("typed_config".to_owned(), config.clone());
                members.remove("config_discovery");
            }
            members.values_mut().for_each(|member| complete(member, routes, filters));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_filters_stand_where_they_are_named() {
        let manager = json!({"rds": {"route_config_name": "r"}, "http_filters": [
            {"name": "taskfence", "config_discovery": {"type_urls": ["x"]}}, {"name": "router", "typed_config": {}}]});
        let listener = json!({"name": "l", "filter_chains": [{"filters": [{"typed_config": manager}]}]});
        let dump = json!({"configs": [
            {"static_clusters": [{"cluster": {"name": "a"}}], "dynamic_active_clusters": [{"cluster": {"name": "b"}}]},
            {"dynamic_listeners": [{"active_state": {"listener": listener}}, {"draining_state": {"listener": {}}}]},
            {"dynamic_route_configs": [{"route_config": {"name": "r", "virtual_hosts": []}}]},
            {"ecds_filters": [{"ecds_filter": {"name": "taskfence", "typed_config": {"config": 1}}}]},
        ]});
        let whole = bootstrap(&dump);
        let manager = json!({"route_config": {"name": "r", "virtual_hosts": []}, "http_filters": [
            {"name": "taskfence", "typed_config": {"config": 1}}, {"name": "router", "typed_config": {}}]});
        let listener = json!({"name": "l", "filter_chains": [{"filters": [{"typed_config": manager}]}]});
        assert_eq!(
            whole["static_resources"],
            json!({"listeners": [listener], "clusters": [{"name": "a"}, {"name": "b"}]})
        );
    }

    #[test]
    fn a_dump_of_another_shape_is_an_empty_configuration() {
        for dump in [json!(null), json!({"configs": 1}), json!({"configs": [1, {"static_listeners": 5}]})] {
            let whole = bootstrap(&dump);
            assert_eq!(whole["static_resources"], json!({"listeners": [], "clusters": []}), "{dump}");
        }
    }
}
