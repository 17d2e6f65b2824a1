//! Tokens as common issuers make them: each is accepted under a configuration of a few lines, by a rule that reads what
//! matters about it.

use crate::config::load::load;
use crate::decision::judge::Judge;
use crate::http::request::Request;
use crate::reason::Reason;
use crate::state::revocations::set_up;
use crate::testing::fixture::{self, NOW, sign};
use crate::testing::ports::TestPorts;
use serde_json::{Map, Value, json};

/// A kind of token: the keys of its issuer's entry in a configuration beside `keys`, what its rule requires, its header
/// beside `alg` and `kid`, and its claims beside the times.
struct Shape {
    name: &'static str,
    issuer: Value,
    require: Value,
    header: Value,
    claims: Value,
    /// `exp - iat` in seconds.
    lifetime: u64,
}

fn shape(name: &'static str, issuer: Value, require: Value, typ: Option<&str>, lifetime: u64, claims: Value) -> Shape {
    let header = typ.map_or_else(|| json!({}), |typ| json!({ "typ": typ }));
    Shape { name, issuer, require, header, claims, lifetime }
}

const ORDERS: &str = "https://orders.mesh";

fn users() -> Vec<Shape> {
    let at = Some("at+jwt");
    let jwt = Some("JWT");
    vec![
        shape(
            "keycloak",
            json!({"profile": "keycloak", "issuer": "https://sso.example/realms/shop", "audiences": ["orders-api"],
                   "claims": {"scope": ["scope", "realm_access.roles"]}}),
            json!({"scope": "orders.read", "when": "'reader' in claims.realm_access.roles && grant.client == 'web'"}),
            jwt,
            300,
            json!({"iss": "https://sso.example/realms/shop", "aud": ["orders-api", "account"], "sub": "u-1", "typ": "Bearer",
                   "azp": "web", "jti": "onrtac:1", "sid": "s-1", "acr": "1", "auth_time": NOW.0 - 600,
                   "realm_access": {"roles": ["offline_access", "reader"]}, "scope": "openid orders.read"}),
        ),
        shape(
            "keycloak, roles as scope, client credentials",
            json!({"profile": "keycloak", "issuer": "https://sso.example/realms/shop", "audiences": ["orders-api"],
                   "claims": {"client": ["azp", "client_id"], "scope": ["resource_access.orders-api.roles", "scope"]}}),
            json!({"scope": "read"}),
            jwt,
            300,
            json!({"iss": "https://sso.example/realms/shop", "aud": "orders-api", "sub": "svc", "typ": "Bearer", "azp": "batch",
                   "client_id": "batch", "jti": "trrtcc:1", "scope": "profile",
                   "resource_access": {"orders-api": {"roles": ["read"]}}, "clientHost": "10.0.0.9"}),
        ),
        shape(
            "entra v2, one of several tenants",
            json!({"profile": "entra-v2", "issuer": "https://login.example/{tenant}/v2.0",
                   "captures": {"tenant": ["t-0", "t-1"]}, "audiences": ["6e74172b"]}),
            json!({"scope": "Orders.Read", "when": "grant.session == 's-1' && claims.tid == 't-1'"}),
            jwt,
            4500,
            json!({"iss": "https://login.example/t-1/v2.0", "aud": "6e74172b", "aio": "A", "azp": "c-1", "azpacr": "1",
                   "oid": "o-1", "rh": "0.A", "scp": "Orders.Read Orders.List", "sid": "s-1", "sub": "p-1", "tid": "t-1",
                   "uti": "KqT", "ver": "2.0"}),
        ),
        shape(
            "entra v2, an application",
            json!({"profile": "entra-v2", "issuer": "https://login.example/t-1/v2.0", "audiences": ["6e74172b"]}),
            json!({"scope": "Orders.Read.All"}),
            jwt,
            4500,
            json!({"iss": "https://login.example/t-1/v2.0", "aud": "6e74172b", "aio": "A", "azp": "c-2", "azpacr": "2",
                   "oid": "o-2", "roles": ["Orders.Read.All"], "sub": "o-2", "tid": "t-1", "uti": "KqU", "ver": "2.0"}),
        ),
        shape(
            "entra v1",
            json!({"profile": "entra-v1", "issuer": "https://sts.example/t-1/", "audiences": ["api://orders"]}),
            json!({"scope": "user_impersonation", "acr": ["1"]}),
            jwt,
            4500,
            json!({"iss": "https://sts.example/t-1/", "aud": "api://orders", "acr": "1", "aio": "A", "amr": ["pwd", "mfa"],
                   "appid": "c-1", "appidacr": "0", "ipaddr": "192.0.2.1", "oid": "o-1", "scp": "user_impersonation",
                   "sub": "p-1", "tid": "t-1", "upn": "mira@corp.example", "uti": "KqV", "ver": "1.0"}),
        ),
        shape(
            "okta, a custom authorization server",
            json!({"profile": "okta", "issuer": "https://corp.okta.example/oauth2/aus1", "audiences": [ORDERS]}),
            json!({"scope": "orders.read", "auth_age": "1h"}),
            None,
            3600,
            json!({"ver": 1, "jti": "AT.0", "iss": "https://corp.okta.example/oauth2/aus1", "aud": ORDERS, "cid": "0oa1",
                   "uid": "00u1", "scp": ["orders.read", "openid"], "auth_time": NOW.0 - 280, "sub": "mira@corp.example"}),
        ),
        shape(
            "auth0, RFC 9068",
            json!({"profile": "auth0", "issuer": "https://corp.auth0.example/", "audiences": [ORDERS]}),
            json!({"scope": "orders.read", "when": "'orders.read' in claims.permissions"}),
            at,
            86400,
            json!({"iss": "https://corp.auth0.example/", "sub": "auth0|42", "aud": [ORDERS, "https://corp.auth0.example/userinfo"],
                   "client_id": "spa", "jti": "73W", "scope": "openid orders.read", "permissions": ["orders.read"]}),
        ),
        shape(
            "auth0, its own profile",
            json!({"profile": "auth0-legacy", "issuer": "https://corp.auth0.example/", "audiences": [ORDERS]}),
            json!({"scope": "orders.read", "claims": {"https://corp.example/roles": ["buyer"]}, "single_use": true}),
            jwt,
            86400,
            json!({"iss": "https://corp.auth0.example/", "sub": "auth0|42", "aud": [ORDERS, "https://corp.auth0.example/userinfo"],
                   "azp": "spa", "scope": "openid orders.read", "https://corp.example/roles": ["buyer"]}),
        ),
        shape(
            "cognito",
            json!({"profile": "cognito", "issuer": "https://cognito-idp.example/pool", "audiences": ["6a"]}),
            json!({"scope": "orders/read", "when": "'buyers' in claims['cognito:groups']"}),
            None,
            3600,
            json!({"sub": "a-b", "cognito:groups": ["buyers"], "iss": "https://cognito-idp.example/pool", "version": 2,
                   "client_id": "6a", "origin_jti": "oj-1", "event_id": "e", "token_use": "access",
                   "scope": "orders/read openid", "auth_time": NOW.0 - 80, "jti": "j-1", "username": "mira"}),
        ),
        shape(
            "hydra",
            json!({"profile": "hydra", "issuer": "https://hydra.example/", "audiences": [ORDERS]}),
            json!({"scope": "orders.read"}),
            jwt,
            3600,
            json!({"aud": [ORDERS], "client_id": "web", "ext": {}, "iss": "https://hydra.example/", "jti": "hy-1",
                   "scp": ["orders.read"], "sub": "mira"}),
        ),
        shape(
            "pingone",
            json!({"profile": "pingone", "issuer": "https://auth.pingone.example/env/as", "audiences": [ORDERS]}),
            json!({"scope": "orders.read"}),
            None,
            3600,
            json!({"iss": "https://auth.pingone.example/env/as", "aud": [ORDERS], "sub": "u-1", "client_id": "c-1",
                   "scope": "orders.read", "sid": "s-1", "env": "env", "org": "org"}),
        ),
        shape(
            "pingfederate, a JWT access token manager",
            json!({"issuer": "https://ping.example", "audiences": [ORDERS], "types": ["absent", "JWT", "at+jwt"],
                   "claims": {"token": "none", "task": "none", "session": "\"pi.sri\""}, "max_lifetime": "2h"}),
            json!({"scope": "orders.read", "when": "grant.session == 'sri-1'"}),
            None,
            7200,
            json!({"scope": "orders.read openid", "client_id": "web", "iss": "https://ping.example", "aud": ORDERS,
                   "pi.sri": "sri-1", "Username": "mira", "sub": "mira"}),
        ),
        shape(
            "forgerock AM, a client-based token",
            json!({"issuer": "https://am.example:443/am/oauth2", "audiences": ["orders-api"], "types": ["JWT"],
                   "where": {"tokenName": "access_token"}, "max_lifetime": "1h",
                   "claims": {"client": "aud", "task": "none", "session": "authGrantId"}}),
            json!({"scope": "orders/read"}),
            jwt,
            3600,
            json!({"sub": "orders-api", "cts": "OAUTH2_STATELESS_GRANT", "auditTrackingId": "142b", "subname": "orders-api",
                   "iss": "https://am.example:443/am/oauth2", "tokenName": "access_token", "token_type": "Bearer",
                   "authGrantId": "nJ8", "aud": "orders-api", "grant_type": "client_credentials", "scope": ["orders/read"],
                   "auth_time": NOW.0 - 100, "realm": "/", "expires_in": 3600, "jti": "roG"}),
        ),
        shape(
            "wso2 API manager",
            json!({"issuer": "https://wso2.example/oauth2/token", "audiences": ["aVu"], "types": ["at+jwt", "JWT"],
                   "where": {"aut": ["APPLICATION", "APPLICATION_USER"]}, "max_lifetime": "1h",
                   "claims": {"client": ["client_id", "azp"], "task": "none"}}),
            json!({"scope": "orders_read"}),
            at,
            3600,
            json!({"sub": "u-1", "aut": "APPLICATION_USER", "aud": "aVu", "azp": "aVu", "client_id": "aVu",
                   "scope": "orders_read", "iss": "https://wso2.example/oauth2/token", "jti": "w-1"}),
        ),
        shape(
            "ibm app id",
            json!({"issuer": "https://appid.example/oauth/v4/t-1", "audiences": ["968c"], "types": ["JWT"],
                   "claims": {"client": "none", "token": "none", "task": "none", "tenant": "tenant"}, "max_lifetime": "61m",
                   "where": {"tenant": "t-1"}}),
            json!({"scope": "orders"}),
            jwt,
            3610,
            json!({"iss": "https://appid.example/oauth/v4/t-1", "aud": ["968c"], "sub": "2b96", "email_verified": true,
                   "amr": ["cloud_directory"], "tenant": "t-1", "scope": "openid appid_default orders"}),
        ),
        shape(
            "zitadel",
            json!({"issuer": "https://zitadel.example", "audiences": ["2511"], "types": ["JWT"], "max_lifetime": "12h",
                   "claims": {"task": "none", "tenant": "urn:zitadel:iam:user:resourceowner:id"}}),
            json!({"when": "has(claims['urn:zitadel:iam:org:project:roles'].reader)"}),
            jwt,
            43200,
            json!({"aud": ["2511", "2510"], "client_id": "2511@shop", "iss": "https://zitadel.example", "jti": "z-1",
                   "sub": "2300", "urn:zitadel:iam:user:resourceowner:id": "77",
                   "urn:zitadel:iam:org:project:roles": {"reader": {"77": "shop.zitadel.example"}}}),
        ),
        shape(
            "authentik",
            json!({"issuer": "https://authentik.example/application/o/shop/", "audiences": ["Ab1"], "types": ["JWT"],
                   "claims": {"client": "azp", "task": "none", "token": ["jti", "uid"], "group": "groups"},
                   "where": {"acr": "goauthentik.io/providers/oauth2/default"}}),
            json!({"scope": "orders"}),
            jwt,
            600,
            json!({"iss": "https://authentik.example/application/o/shop/", "sub": "h4sh", "aud": "Ab1", "azp": "Ab1",
                   "acr": "goauthentik.io/providers/oauth2/default", "auth_time": NOW.0 - 100, "uid": "xyz",
                   "scope": "openid orders", "groups": ["ops"], "jti": "xyz"}),
        ),
        shape(
            "salesforce, a JWT access token",
            json!({"issuer": "https://corp.my.salesforce.example", "audiences": ["https://corp.my.salesforce.example"],
                   "types": ["JWT", "at+jwt"], "where": {"mty": "oauth"}, "max_lifetime": "30m",
                   "claims": {"scope": "scp", "token": "none", "task": "none"}}),
            json!({"scope": "api"}),
            jwt,
            1800,
            json!({"sub": "uid:005", "aud": ["https://corp.my.salesforce.example"], "iss": "https://corp.my.salesforce.example",
                   "mty": "oauth", "scp": "refresh_token api", "sfi": "a1", "client_id": "3MVG"}),
        ),
        shape(
            "firebase",
            json!({"issuer": "https://securetoken.google.example/shop", "audiences": ["shop"], "types": ["JWT"],
                   "where": {"firebase.sign_in_provider": ["password", "google.com"]}, "max_lifetime": "1h",
                   "claims": {"client": "none", "token": "none", "task": "none"}}),
            json!({"claims": {"firebase.tenant": "red"}}),
            jwt,
            3600,
            json!({"iss": "https://securetoken.google.example/shop", "aud": "shop", "auth_time": NOW.0 - 5, "user_id": "f1",
                   "sub": "f1", "email": "a@b.example",
                   "firebase": {"identities": {}, "sign_in_provider": "password", "tenant": "red"}}),
        ),
        shape(
            "apple, an ID token",
            json!({"issuer": "https://appleid.apple.example", "audiences": ["com.shop.app"], "types": ["absent"],
                   "claims": {"client": "aud", "token": "none", "task": "none", "scope": "none"}, "max_lifetime": "24h"}),
            json!({"claims": {"email_verified": true}}),
            None,
            86400,
            json!({"iss": "https://appleid.apple.example", "aud": "com.shop.app", "sub": "001.a", "c_hash": "x",
                   "email": "a@b.example", "email_verified": true, "auth_time": NOW.0 - 20, "nonce_supported": true}),
        ),
        shape(
            "dex, an ID token",
            json!({"issuer": "https://dex.example/dex", "audiences": ["shop"], "types": ["absent"], "max_lifetime": "24h",
                   "claims": {"client": ["azp", "aud"], "token": "none", "task": "none", "group": "groups"},
                   "where": {"federated_claims.connector_id": "github"}}),
            json!({"when": "'admins' in claims.groups"}),
            None,
            86400,
            json!({"iss": "https://dex.example/dex", "sub": "CgcyMz", "aud": "shop", "at_hash": "bi9", "groups": ["admins"],
                   "federated_claims": {"connector_id": "github", "user_id": "110"}}),
        ),
        shape(
            "google, an ID token",
            json!({"profile": "google", "issuer": "https://accounts.google.example", "audiences": ["32.apps.example"]}),
            json!({"claims": {"hd": "corp.example", "email_verified": true}}),
            jwt,
            3600,
            json!({"iss": "https://accounts.google.example", "azp": "32.apps.example", "aud": "32.apps.example", "sub": "113",
                   "hd": "corp.example", "email": "mira@corp.example", "email_verified": true, "at_hash": "x"}),
        ),
        shape(
            "an agent on behalf of a user",
            json!({"issuer": "https://as.example", "audiences": [ORDERS], "claims": {"client": "azp", "task": "none"}}),
            json!({"scope": "orders.read", "actor": {"agents": ["agent-7"]}}),
            at,
            600,
            json!({"iss": "https://as.example", "aud": ORDERS, "sub": "mira", "azp": "agent-client", "act": {"sub": "agent-7"},
                   "jti": "ag-1", "scope": "orders.read"}),
        ),
        shape(
            "a client of MCP, RFC 9068",
            json!({"issuer": "https://as.example", "audiences": ["https://mcp.orders.mesh/mcp"], "claims": {"task": "none"}}),
            json!({"scope": "tools.read"}),
            at,
            600,
            json!({"iss": "https://as.example", "aud": "https://mcp.orders.mesh/mcp", "sub": "mira",
                   "client_id": "https://client.example/cimd.json", "jti": "mcp-1", "scope": "tools.read"}),
        ),
    ]
}

fn workloads() -> Vec<Shape> {
    let jwt = Some("JWT");
    let kubernetes = json!({"namespace": "shop", "node": {"name": "n1", "uid": "u0"}, "pod": {"name": "web-1", "uid": "u1"},
        "serviceaccount": {"name": "web", "uid": "u2"}});
    vec![
        shape(
            "kubernetes",
            json!({"profile": "kubernetes", "issuer": "https://kubernetes.default.svc.cluster.local", "audiences": [ORDERS]}),
            json!({"claims": {"\"kubernetes.io\".serviceaccount.name": "web"}, "when": "grant.session == 'u1'"}),
            None,
            3607,
            json!({"aud": [ORDERS], "iss": "https://kubernetes.default.svc.cluster.local", "jti": "ea28",
                   "kubernetes.io": kubernetes, "sub": "system:serviceaccount:shop:web"}),
        ),
        shape(
            "eks pod identity",
            json!({"profile": "kubernetes", "issuer": "https://oidc.eks.example/id/ABC", "audiences": ["pods.eks.example"],
                   "max_lifetime": "24h", "claims": {"client": "none"}}),
            json!({"claims": {"\"kubernetes.io\".namespace": "shop"}}),
            None,
            86400,
            json!({"aud": ["pods.eks.example"], "iss": "https://oidc.eks.example/id/ABC", "jti": "eks-1",
                   "kubernetes.io": kubernetes, "sub": "system:serviceaccount:shop:web"}),
        ),
        shape(
            "kubernetes before 1.29, without jti",
            json!({"profile": "kubernetes", "issuer": "https://oidc.aks.example/x/", "audiences": ["api://AzureADTokenExchange"],
                   "claims": {"token": "none"}}),
            json!({"when": "grant.client == 'system:serviceaccount:shop:web'"}),
            None,
            3600,
            json!({"aud": ["api://AzureADTokenExchange"], "iss": "https://oidc.aks.example/x/", "kubernetes.io": kubernetes,
                   "sub": "system:serviceaccount:shop:web"}),
        ),
        shape(
            "spiffe, a JWT-SVID without iss",
            json!({"profile": "spiffe", "issuer": "spiffe://td.example", "audiences": [ORDERS]}),
            json!({"when": "grant.subject == 'spiffe://td.example/ns/shop/sa/web'"}),
            jwt,
            300,
            json!({"aud": [ORDERS], "sub": "spiffe://td.example/ns/shop/sa/web"}),
        ),
        shape(
            "teleport, a JWT-SVID",
            json!({"profile": "teleport", "issuer": "https://teleport.example/workload-identity", "audiences": [ORDERS]}),
            json!({"when": "grant.client == 'spiffe://td.example/svc/ci'"}),
            jwt,
            3600,
            json!({"iss": "https://teleport.example/workload-identity", "sub": "spiffe://td.example/svc/ci",
                   "aud": [ORDERS], "jti": "tp-1"}),
        ),
        shape(
            "google, signed by a service account",
            json!({"profile": "google-service-account", "issuer": "ci@proj.example", "audiences": [ORDERS]}),
            json!({"when": "grant.client == 'ci@proj.example'"}),
            jwt,
            3600,
            json!({"iss": "ci@proj.example", "sub": "ci@proj.example", "aud": ORDERS}),
        ),
        shape(
            "google, an ID token of a service account",
            json!({"profile": "google", "issuer": "https://accounts.google.example", "audiences": ["https://run.example"]}),
            json!({"claims": {"email": "ci@proj.example", "google.compute_engine.project_id": "proj"}}),
            jwt,
            3600,
            json!({"iss": "https://accounts.google.example", "azp": "114", "aud": "https://run.example", "sub": "114",
                   "email": "ci@proj.example", "email_verified": true,
                   "google": {"compute_engine": {"project_id": "proj", "instance_id": "1"}}}),
        ),
        shape(
            "github actions",
            json!({"profile": "github-actions", "issuer": "https://token.actions.example", "audiences": [ORDERS]}),
            json!({"when": "grant.task == '22259804324' && claims.repository == 'octo/shop'", "single_use": true}),
            jwt,
            300,
            json!({"jti": "gh-1", "sub": "repo:octo/shop:environment:prod", "aud": ORDERS, "ref": "refs/heads/main",
                   "repository": "octo/shop", "run_id": "22259804324", "run_number": "42", "actor": "mira",
                   "job_workflow_ref": "octo/shop/.github/workflows/d.yml@refs/heads/main",
                   "iss": "https://token.actions.example", "nbf": NOW.0 - 680}),
        ),
        shape(
            "gitlab",
            json!({"profile": "gitlab-ci", "issuer": "https://gitlab.example", "audiences": [ORDERS]}),
            json!({"claims": {"ref_protected": "true", "runner_id": 1}, "when": "grant.task == '574'"}),
            jwt,
            3600,
            json!({"project_id": "20", "project_path": "grp/shop", "pipeline_id": "574", "job_id": "302", "ref": "main",
                   "ref_protected": "true", "runner_id": 1, "jti": "gl-1", "iss": "https://gitlab.example",
                   "sub": "project_path:grp/shop:ref_type:branch:ref:main", "aud": ORDERS}),
        ),
        shape(
            "buildkite",
            json!({"profile": "buildkite", "issuer": "https://agent.buildkite.example", "audiences": [ORDERS],
                   "claims": {"task": "build_number"}}),
            json!({"when": "grant.task == '17' && claims.build_branch == 'main'"}),
            jwt,
            300,
            json!({"iss": "https://agent.buildkite.example", "sub": "organization:acme:pipeline:shop:ref:refs/heads/main",
                   "aud": ORDERS, "organization_slug": "acme", "pipeline_slug": "shop", "build_number": 17,
                   "build_branch": "main", "job_id": "0184", "agent_id": "0185"}),
        ),
        shape(
            "circleci",
            json!({"profile": "circleci", "issuer": "https://oidc.circleci.example/org/o-1", "audiences": ["o-1"]}),
            json!({"when": "grant.client == 'p-1'", "claims": {"\"oidc.circleci.com/vcs-ref\"": "refs/heads/main"}}),
            jwt,
            3600,
            json!({"iss": "https://oidc.circleci.example/org/o-1", "sub": "org/o-1/project/p-1/user/u-1", "aud": "o-1",
                   "oidc.circleci.com/project-id": "p-1", "oidc.circleci.com/context-ids": ["c-1"],
                   "oidc.circleci.com/vcs-ref": "refs/heads/main"}),
        ),
        shape(
            "terraform cloud",
            json!({"profile": "terraform-cloud", "issuer": "https://app.terraform.example", "audiences": [ORDERS]}),
            json!({"when": "grant.task == 'run-1' && claims.terraform_run_phase == 'apply'"}),
            jwt,
            7200,
            json!({"jti": "1192", "iss": "https://app.terraform.example", "aud": ORDERS,
                   "sub": "organization:o:project:p:workspace:w:run_phase:apply", "terraform_organization_id": "org-1",
                   "terraform_workspace_id": "ws-1", "terraform_run_id": "run-1", "terraform_run_phase": "apply"}),
        ),
        shape(
            "spacelift",
            json!({"issuer": "https://demo.spacelift.example", "audiences": ["demo.spacelift.example"], "types": ["JWT"],
                   "claims": {"client": "callerId", "task": "runId", "session": "none", "scope": "scope"}, "max_lifetime": "1h"}),
            json!({"scope": "write"}),
            jwt,
            3600,
            json!({"iss": "https://demo.spacelift.example", "aud": "demo.spacelift.example", "jti": "sl-1",
                   "sub": "space:root:stack:infra:run_type:TRACKED:scope:write", "spaceId": "root", "callerType": "stack",
                   "callerId": "infra", "runType": "TRACKED", "runId": "01H", "scope": "write"}),
        ),
        shape(
            "bitbucket pipelines",
            json!({"issuer": "https://api.bitbucket.example/ws/oidc", "audiences": ["ari:cloud:bitbucket::workspace/w"],
                   "types": ["absent", "JWT"], "max_lifetime": "1h",
                   "claims": {"client": "repositoryUuid", "token": "none", "task": "pipelineUuid", "session": "stepUuid"}}),
            json!({"when": "grant.client == '{r-1}' && claims.branchName == 'main'"}),
            None,
            3600,
            json!({"iss": "https://api.bitbucket.example/ws/oidc", "aud": "ari:cloud:bitbucket::workspace/w",
                   "sub": "{r-1}:{s-1}", "stepUuid": "{s-1}", "repositoryUuid": "{r-1}", "pipelineUuid": "{p-1}",
                   "workspaceUuid": "{w}", "branchName": "main"}),
        ),
        shape(
            "vault, an identity token",
            json!({"issuer": "https://vault.example/v1/identity/oidc", "audiences": ["role-client"], "types": ["absent", "JWT"],
                   "where": {"namespace": "root"}, "max_lifetime": "24h",
                   "claims": {"client": "aud", "token": "none", "task": "none", "session": "none", "scope": "none"}}),
            json!({"claims": {"metadata.team": "shop"}}),
            None,
            86400,
            json!({"aud": "role-client", "iss": "https://vault.example/v1/identity/oidc", "namespace": "root",
                   "sub": "entity-1", "metadata": {"team": "shop"}}),
        ),
        shape(
            "a transaction token",
            json!({"profile": "txn-token", "issuer": "https://tts.td.example", "audiences": ["http://td.example"]}),
            json!({"scope": "orders.read", "claims": {"tctx.action": "BUY"}, "when": "claims.rctx.req_ip == '10.0.0.1' && grant.client == 'gateway' && grant.task == '9705'"}),
            Some("txntoken+jwt"),
            15,
            json!({"iss": "https://tts.td.example", "aud": "http://td.example", "txn": "9705", "sub": "d084",
                   "scope": "orders.read", "req_wl": "gateway", "tctx": {"action": "BUY"}, "rctx": {"req_ip": "10.0.0.1"}}),
        ),
    ]
}

fn ask(shape: &Shape, change: impl FnOnce(&mut Map<String, Value>)) -> Result<(), (Reason, Option<String>)> {
    let mut issuer = shape.issuer.clone();
    issuer["keys"] = json!({"inline": fixture::jwks()});
    let config =
        json!({"issuers": [issuer], "rules": [{"name": "r", "match": {"path": "/orders"}, "require": shape.require}]});
    let loaded = load(config.to_string().as_bytes()).map_err(|errors| format!("{}: {errors}", shape.name)).unwrap();
    let mut header = json!({"alg": "ES256", "kid": "jit-1"});
    header.as_object_mut().unwrap().extend(shape.header.as_object().unwrap().clone());
    let mut claims = shape.claims.as_object().unwrap().clone();
    claims.insert("iat".to_owned(), json!(NOW.0 - 5));
    claims.insert("exp".to_owned(), json!(NOW.0 - 5 + shape.lifetime));
    change(&mut claims);
    let token = sign(&header, &Value::Object(claims));
    let own = issuer.get("profile") == Some(&json!("txn-token"));
    let (name, value) = if own { ("txn-token", token) } else { ("authorization", format!("Bearer {token}")) };
    let headers = [(":method", "GET"), (":authority", "orders.mesh"), (":path", "/orders"), (name, value.as_str())];
    let headers = headers.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let request = Request::with_places(headers, loaded.policy.places());
    let mut ports = TestPorts::default();
    set_up(&mut ports.store.memory, 1).unwrap();
    let verdict = Judge::new(loaded.policy).judge(&request, &mut ports, NOW);
    verdict.map(|_| ()).map_err(|refusal| (refusal.reason, refusal.claim.map(|claim| claim.to_string())))
}

#[test]
fn each_is_accepted() {
    let shapes: Vec<Shape> = users().into_iter().chain(workloads()).collect();
    assert!(shapes.len() >= 40, "{}", shapes.len());
    for shape in &shapes {
        assert_eq!(ask(shape, |_| {}), Ok(()), "{}", shape.name);
        let other_issuer = ask(shape, |claims| {
            claims.insert("iss".to_owned(), json!("https://elsewhere.example"));
        });
        assert_eq!(other_issuer, Err((Reason::IssuerUnknown, None)), "{}", shape.name);
    }
}

/// The ID tokens of issuers whose access tokens have no type of their own.
#[test]
fn id_tokens_are_not_access_tokens() {
    let shapes = users();
    let refused = |name: &str, change: fn(&mut Map<String, Value>)| {
        let shape = shapes.iter().find(|shape| shape.name == name).unwrap();
        ask(shape, change).unwrap_err().0
    };
    let id_of_keycloak = refused("keycloak", |claims| drop(claims.insert("typ".to_owned(), json!("ID"))));
    assert_eq!(id_of_keycloak, Reason::TokenType);
    let id_of_entra = refused("entra v2, an application", |claims| {
        claims.retain(|name, _| !matches!(name.as_str(), "azp" | "azpacr" | "roles" | "uti"));
    });
    assert_eq!(id_of_entra, Reason::TokenType);
    let id_of_cognito = refused("cognito", |claims| {
        claims.insert("token_use".to_owned(), json!("id"));
        claims.remove("client_id");
        claims.insert("aud".to_owned(), json!("6a"));
    });
    assert_eq!(id_of_cognito, Reason::TokenType);
}
