//! Envoy checks most signatures and the filter the rest, or all of them where Envoy does not offer it: nobody outside
//! can tell which.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fastrand::Rng;
use serde_json::{Map, Value, json};
use taskfence_tests::{
    bootstrap::{APP, Settings},
    capabilities,
    client::{self, Http, Request},
    in_process::InProcess,
    mint::{self, Alg, Jwt},
    orders,
    refusal::assert_signal_accepted,
    sidecar::Sidecar,
    tamper,
};
use tokio::sync::OnceCell;

/// The listener on which the filter has to check signatures itself.
const ALONE: &str = "alone";

async fn sidecar() -> &'static Sidecar {
    static SIDECAR: OnceCell<Sidecar> = OnceCell::const_new();
    let restriction = capabilities::all_but(&["proxy_call_foreign_function"]).unwrap();
    // A flood of bad signatures is not what this is about.
    let mut config = orders::config();
    config["limits"] = json!({"bad_signatures": {"per_second": 1_000_000, "burst": 1_000_000}});
    let settings = Settings::new("signatures", config.clone()).also(ALONE, config).patch(move |bootstrap| {
        let alone = bootstrap.pointer_mut(&APP.replace("listeners/0", "listeners/2")).expect("the third listener");
        let plugin = &mut alone["http_filters"][0]["typed_config"]["config"];
        plugin["capability_restriction_config"] = restriction;
        // Restrictions belong to the machine, and a machine of the same id would be shared.
        plugin["vm_config"]["vm_id"] = json!("taskfence.v1.alone");
    });
    SIDECAR.get_or_init(|| async { Sidecar::start(settings).await.unwrap() }).await
}

/// What both ways say about each token, by its name.
async fn both_say(corpus: &[(String, String)], expected: Result<(), &[&str]>) {
    let sidecar = sidecar().await;
    for (name, token) in corpus {
        let request = Request::get(orders::ORDER_PATH).bearer(token);
        let with_proxy = client::send(sidecar.app(), Http::One, &request).await.unwrap();
        let alone = client::send(sidecar.listener(ALONE), Http::One, &request).await.unwrap();
        let said = [&with_proxy, &alone].map(|answer| (answer.line(), answer.reason()));
        assert_eq!(said[0], said[1], "with the proxy (left) and alone (right): {name}");
        let (line, reason) = &said[0];
        match expected {
            Ok(()) => assert_eq!((line.as_str(), reason), ("200", &None), "{name}\n{}", tamper::show(token)),
            Err(reasons) => {
                let reason = reason.as_deref().unwrap_or_default();
                assert!(reasons.contains(&reason), "{name}: {line} {reason}\n{}", tamper::show(token));
            }
        }
    }
}

fn named(corpus: impl IntoIterator<Item = (impl Into<String>, String)>) -> Vec<(String, String)> {
    corpus.into_iter().map(|(name, token)| (name.into(), token)).collect()
}

fn signed(alg: Alg) -> Jwt {
    mint::token().signed_by(mint::ISSUER.signer(alg))
}

fn signature_of(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.rsplit_once('.').unwrap().1).unwrap()
}

#[tokio::test]
async fn every_algorithm_is_verified_either_way() {
    both_say(&named(Alg::ALL.map(|alg| (alg.name(), signed(alg).sign()))), Ok(())).await;
}

#[tokio::test]
async fn every_bad_signature_is_refused_either_way() {
    let mut corpus = Vec::new();
    for alg in Alg::ALL {
        let jwt = signed(alg);
        let good = signature_of(&jwt.sign());
        let other = signature_of(&signed(alg).sign());
        let forged = mint::FORGER.signer(alg).signature(b"anything", alg);
        let bits = [0, good.len() / 2, good.len() - 1];
        let flipped = bits.map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            (format!("{} with a flipped bit in byte {at}", alg.name()), bytes)
        });
        let others = [
            (format!("{} of another token", alg.name()), other),
            (format!("{} by another key", alg.name()), forged),
            (format!("{} of one byte", alg.name()), vec![1]),
            (format!("{} one byte short", alg.name()), good[1..].to_vec()),
            (format!("{} one byte long", alg.name()), [&good[..], &[0]].concat()),
            (format!("{} all zero", alg.name()), vec![0; good.len()]),
            (format!("{} all ones", alg.name()), vec![0xff; good.len()]),
            (format!("{} of 4 KiB", alg.name()), vec![7; 4096]),
        ];
        corpus.extend(
            flipped.into_iter().chain(others).map(|(name, bytes)| (name, tamper::with_signature(&jwt, &bytes))),
        );
    }
    both_say(&corpus, Err(&["signature_invalid"])).await;
}

/// CVE-2022-21449 and its kin: numbers that are no ECDSA signature, and one that is, spelt as DER.
#[tokio::test]
async fn numbers_out_of_range_are_no_signature() {
    let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let (zero, one) = ([0; 32].to_vec(), [&[0; 31][..], &[1]].concat());
    let above = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632552");
    let pairs = [
        ("r = s = 0", [&zero, &zero]),
        ("r = 0", [&zero, &one]),
        ("s = 0", [&one, &zero]),
        ("r = n", [&order, &one]),
        ("s = n", [&one, &order]),
        ("r = s = n", [&order, &order]),
        ("r > n", [&above, &one]),
        ("r = s = 1", [&one, &one]),
    ];
    let jwt = signed(Alg::Es256);
    let mut corpus: Vec<_> = pairs
        .iter()
        .map(|(name, [r, s])| ((*name).to_owned(), tamper::with_signature(&jwt, &[&r[..], s].concat())))
        .collect();
    let good = signature_of(&jwt.sign());
    corpus.push(("as DER".to_owned(), tamper::with_signature(&jwt, &as_der(&good))));
    both_say(&corpus, Err(&["signature_invalid"])).await;
}

/// RFC 7518 asks for no low S, so both of the two signatures that are always there are good.
#[tokio::test]
async fn a_high_s_is_as_good_as_a_low_one() {
    let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let token = signed(Alg::Es256).sign();
    let signature = signature_of(&token);
    let (r, s) = signature.split_at(32);
    let mut borrow = 0;
    let mut negated: Vec<u8> = order
        .iter()
        .zip(s)
        .rev()
        .map(|(n, s)| {
            let difference = i16::from(*n) - i16::from(*s) - borrow;
            borrow = i16::from(difference < 0);
            difference.rem_euclid(256) as u8
        })
        .collect();
    negated.reverse();
    let start = token.rsplit_once('.').unwrap().0;
    let other = format!("{start}.{}", URL_SAFE_NO_PAD.encode([r, &negated].concat()));
    both_say(&named([("one", token.clone()), ("the other", other)]), Ok(())).await;
}

/// The function of the proxy is told a key and a hash, not an algorithm: what the header says must not bend the key.
#[tokio::test]
async fn a_key_is_good_for_its_own_algorithm_only() {
    let mut corpus = Vec::new();
    for owner in Alg::ALL {
        for claimed in Alg::ALL.into_iter().filter(|claimed| *claimed != owner) {
            let signer = mint::ISSUER.signer(owner);
            let jwt = mint::token().header("alg", claimed.name()).header("kid", signer.kid.as_str());
            let input = jwt.sign();
            let input = input.rsplit_once('.').unwrap().0;
            let rsa = [Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256];
            let bent = if rsa.contains(&owner) && rsa.contains(&claimed) { claimed } else { owner };
            let signature = URL_SAFE_NO_PAD.encode(signer.signature(input.as_bytes(), bent));
            corpus.push((format!("{} key as {}", owner.name(), claimed.name()), format!("{input}.{signature}")));
        }
    }
    both_say(&corpus, Err(&["algorithm_refused"])).await;
}

/// Any RSA key fits all four RSA algorithms, unless its `alg` says which: one that says nothing must still not take a
/// PSS signature for a PKCS #1 one, nor a hash for another.
#[tokio::test]
async fn a_signature_is_good_for_its_own_algorithm_only() {
    let rsa = [Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256];
    let mut config = orders::config();
    let keys = config["issuers"][0]["keys"]["inline"]["keys"].as_array_mut().expect("keys");
    for key in keys.iter_mut().filter_map(Value::as_object_mut) {
        key.remove("alg");
    }
    let sidecar = Sidecar::start(Settings::new("signatures-any", config)).await.unwrap();
    let signer = mint::ISSUER.signer(Alg::Rs256);
    for claimed in rsa {
        for made in rsa {
            let jwt = mint::token().header("alg", claimed.name()).header("kid", signer.kid.as_str());
            let input = jwt.sign();
            let input = input.rsplit_once('.').unwrap().0;
            let signature = URL_SAFE_NO_PAD.encode(signer.signature(input.as_bytes(), made));
            let request = Request::get(orders::ORDER_PATH).bearer(&format!("{input}.{signature}"));
            let answer = sidecar.send(Http::One, &request).await.unwrap();
            let reason = if claimed == made { None } else { Some("signature_invalid") };
            assert_eq!(answer.reason().as_deref(), reason, "{} under {}", made.name(), claimed.name());
        }
    }
}

/// Members of header and claims that no check of ours reads: whatever they are, a good signature is good. Libraries that
/// read a token into types of their own refuse these.
#[tokio::test]
async fn what_a_token_says_besides_does_not_break_its_signature() {
    let long: Vec<Value> = (0..4).map(|_| json!("M".repeat(2_000))).collect();
    let odd = [
        ("claim nonce: 7", mint::token().claim("nonce", 7)),
        ("claim kid: []", mint::token().claim("kid", json!([]))),
        ("header x5c, long", mint::token().header("x5c", long)),
        ("header x5c: text", mint::token().header("x5c", "MIIC")),
        ("header x5t: 7", mint::token().header("x5t", 7)),
        ("header salt", mint::token().header("salt", "c2FsdA")),
        ("header salt: 7", mint::token().header("salt", 7)),
        ("header cty: null", mint::token().header("cty", Value::Null)),
        ("header jku: {}", mint::token().header("jku", json!({}))),
    ];
    let mut corpus = Vec::new();
    for alg in Alg::ALL {
        corpus.extend(odd.iter().map(|(name, jwt)| {
            let token = jwt.clone().signed_by(mint::ISSUER.signer(alg)).sign();
            (format!("{name}, {}", alg.name()), token)
        }));
    }
    both_say(&corpus, Ok(())).await;
    let mut judge = InProcess::new(&orders::config());
    for (name, token) in &corpus {
        assert_eq!(ask_in_process(&mut judge, token), "200", "in process: {name}");
    }
}

#[tokio::test]
async fn what_a_signal_says_besides_does_not_break_its_signature() {
    let sidecar = sidecar().await;
    let long: Vec<Value> = (0..4).map(|_| json!("M".repeat(2_000))).collect();
    for alg in Alg::ALL {
        let set = || mint::complete_task(&mint::unique("task")).signed_by(mint::TRANSMITTER.signer(alg));
        for odd in [set().claim("nonce", 7), set().header("x5c", long.clone()), set().header("salt", "c2FsdA")] {
            assert_signal_accepted(&sidecar.push(&odd).await.unwrap());
        }
    }
}

/// Whoever checks the signature: the proxy, the filter alone, or the code of `explain`, all say the same about any token.
#[tokio::test]
async fn any_header_and_claims_have_one_verdict() {
    let mut chance = Rng::with_seed(0x51C7_00A6);
    let mut judge = InProcess::new(&orders::config());
    let sidecar = sidecar().await;
    for at in 0..150 {
        let alg = Alg::ALL[at % Alg::ALL.len()];
        let mut jwt = signed(alg);
        for (name, value) in members(&["x5c", "x5t", "x5u", "jku", "cty", "salt", "url", "nonce", "ppt"], &mut chance) {
            jwt = jwt.header(&name, value);
        }
        for (name, value) in members(&["nonce", "jwk", "kid", "amr", "azp", "at_hash", "status", "rid"], &mut chance) {
            jwt = jwt.claim(&name, value);
        }
        let good = jwt.sign();
        let expected = match at % 3 {
            0 => "401 signature_invalid",
            _ => "200",
        };
        let token = if at % 3 == 0 { tamper::flip_signature_bit(&good) } else { good };
        let request = Request::get(orders::ORDER_PATH).bearer(&token);
        let with_proxy = client::send(sidecar.app(), Http::One, &request).await.unwrap().line();
        let alone = client::send(sidecar.listener(ALONE), Http::One, &request).await.unwrap().line();
        let in_process = ask_in_process(&mut judge, &token);
        let said = [with_proxy.as_str(), alone.as_str(), in_process.as_str()];
        assert_eq!(said, [expected; 3], "proxy, alone, in process: {}", tamper::show(&token));
    }
}

fn ask_in_process(judge: &mut InProcess, token: &str) -> String {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_bytes())];
    judge.judge("GET", orders::HOST.as_bytes(), orders::ORDER_PATH.as_bytes(), &headers).line()
}

/// Some of `names`, each with any JSON at all.
fn members(names: &[&str], chance: &mut Rng) -> Map<String, Value> {
    let mut members = Map::new();
    for name in names {
        if chance.bool() {
            members.insert((*name).to_owned(), any_json(3, chance));
        }
    }
    members
}

fn any_json(depth: u8, chance: &mut Rng) -> Value {
    match chance.u8(..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(chance.bool()),
        2 => json!(chance.i64(..)),
        3 => json!(chance.f64()),
        4 => json!("é\u{1}"),
        5 => json!("x".repeat(chance.usize(..40))),
        6 => (0..chance.usize(..4)).map(|_| any_json(depth - 1, chance)).collect(),
        _ => {
            let member = |at: usize, chance: &mut Rng| (format!("m{at}"), any_json(depth - 1, chance));
            Value::Object((0..chance.usize(..4)).map(|at| member(at, chance)).collect())
        }
    }
}

fn as_der(signature: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = (digits[0] >= 0x80).then_some(0);
        let body: Vec<u8> = sign.into_iter().chain(digits).collect();
        [&[2, body.len() as u8][..], &body].concat()
    };
    let (r, s) = signature.split_at(32);
    let body = [integer(r), integer(s)].concat();
    [&[0x30, body.len() as u8][..], &body].concat()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
