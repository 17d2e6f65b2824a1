//! The functions of CEL that convert one value. They are written again here, because the library reaches its own only
//! through an environment with all its functions, types and macros. A test compares both.

use cel::common::types::{CelBool, CelBytes, CelDouble, CelInt, CelString, CelType, CelUInt};
use cel::common::value::Val;

/// A function from one value to another. `None`: the value has no such form.
pub(super) type Conversion = for<'v> fn(Box<dyn Val + 'v>) -> Option<Box<dyn Val + 'v>>;

/// The conversion `name`.
pub(super) fn conversion(name: &str) -> Option<Conversion> {
    Some(match name {
        "int" => |of| to_int(of.as_ref()).map(|number| boxed(CelInt::from(number))),
        "uint" => |of| to_uint(of.as_ref()).map(|number| boxed(CelUInt::from(number))),
        "double" => |of| to_double(of.as_ref()).map(|number| boxed(CelDouble::from(number))),
        "string" => |of| match of.downcast_ref::<CelString>() {
            Some(_) => Some(of),
            None => to_string(of.as_ref()).map(|text| boxed(CelString::from(text))),
        },
        "bool" => |of| to_bool(of.as_ref()).map(|truth| boxed(CelBool::from(truth))),
        "type" => |of| Some(boxed(CelType::new(of.get_type().name()))),
        _ => return None,
    })
}

fn boxed<'v>(value: impl Val + 'v) -> Box<dyn Val + 'v> {
    Box::new(value)
}

#[expect(clippy::as_conversions, reason = "the bounds of the range are exact as doubles, and a double within fits")]
fn to_int(of: &dyn Val) -> Option<i64> {
    if let Some(number) = of.downcast_ref::<CelInt>() {
        Some(*number.inner())
    } else if let Some(number) = of.downcast_ref::<CelUInt>() {
        i64::try_from(*number.inner()).ok()
    } else if let Some(number) = of.downcast_ref::<CelDouble>() {
        // Without both bounds, as in CEL.
        let number = *number.inner();
        (number > i64::MIN as f64 && number < i64::MAX as f64).then_some(number as i64)
    } else {
        of.downcast_ref::<CelString>()?.inner().parse().ok()
    }
}

#[expect(clippy::as_conversions, reason = "the bounds of the range are exact as doubles, and a double within fits")]
fn to_uint(of: &dyn Val) -> Option<u64> {
    if let Some(number) = of.downcast_ref::<CelUInt>() {
        Some(*number.inner())
    } else if let Some(number) = of.downcast_ref::<CelInt>() {
        u64::try_from(*number.inner()).ok()
    } else if let Some(number) = of.downcast_ref::<CelDouble>() {
        let number = *number.inner();
        (number >= 0.0 && number < u64::MAX as f64).then_some(number as u64)
    } else {
        of.downcast_ref::<CelString>()?.inner().parse().ok()
    }
}

#[expect(clippy::as_conversions, reason = "CEL converts to the nearest double")]
fn to_double(of: &dyn Val) -> Option<f64> {
    if let Some(number) = of.downcast_ref::<CelDouble>() {
        Some(*number.inner())
    } else if let Some(number) = of.downcast_ref::<CelInt>() {
        Some(*number.inner() as f64)
    } else if let Some(number) = of.downcast_ref::<CelUInt>() {
        Some(*number.inner() as f64)
    } else {
        of.downcast_ref::<CelString>()?.inner().parse().ok()
    }
}

/// The text of a value that is no string.
fn to_string(of: &dyn Val) -> Option<String> {
    if let Some(truth) = of.downcast_ref::<CelBool>() {
        Some(truth.to_string())
    } else if let Some(number) = of.downcast_ref::<CelInt>() {
        Some(number.to_string())
    } else if let Some(number) = of.downcast_ref::<CelUInt>() {
        Some(number.to_string())
    } else if let Some(number) = of.downcast_ref::<CelDouble>() {
        Some(number.to_string())
    } else {
        std::str::from_utf8(of.downcast_ref::<CelBytes>()?.inner()).ok().map(str::to_owned)
    }
}

fn to_bool(of: &dyn Val) -> Option<bool> {
    if let Some(truth) = of.downcast_ref::<CelBool>() {
        return Some(*truth.inner());
    }
    match of.downcast_ref::<CelString>()?.inner() {
        "1" | "t" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cel::common::types::{CelList, CelNull};
    use cel::common::value::CowVal;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Box<dyn Val>> {
        let edge = |number: f64| prop_oneof![Just(number), Just(number.next_up()), Just(number.next_down())];
        prop_oneof![
            any::<bool>().prop_map(|truth| boxed(CelBool::from(truth))),
            any::<i64>().prop_map(|number| boxed(CelInt::from(number))),
            any::<u64>().prop_map(|number| boxed(CelUInt::from(number))),
            any::<f64>().prop_map(|number| boxed(CelDouble::from(number))),
            (-1e20..1e20).prop_map(|number: f64| boxed(CelDouble::from(number))),
            prop_oneof![edge(-2_f64.powi(63)), edge(2_f64.powi(63)), edge(2_f64.powi(64)), edge(0.0)]
                .prop_map(|number| boxed(CelDouble::from(number))),
            "[+-]?[0-9]{0,21}|[0-9.eE+-]{0,6}|inf|NaN|[tTfF01]|true|TRUE|True|tRUE|false|False|.{0,4}"
                .prop_map(|text| boxed(CelString::from(text))),
            proptest::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| boxed(CelBytes::from(bytes))),
            "[a-zé]{0,4}".prop_map(|text| boxed(CelBytes::from(text.into_bytes()))),
            Just(0).prop_map(|_| boxed(CelNull)),
            Just(0).prop_map(|_| boxed(CelList::from(Vec::new()))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn converts_as_the_library_does(value in values()) {
            let environment = cel::Env::stdlib();
            for name in ["int", "uint", "double", "string", "bool", "type"] {
                let of = vec![CowVal::Owned(value.clone_as_boxed())];
                let library = environment.find_overload(name, &of).and_then(|convert| convert(of).ok());
                let ours = conversion(name).unwrap()(value.clone_as_boxed());
                // Debug tells more than equality: kinds, the sign of zero, and NaN equals itself.
                let (ours, library) = (ours.map(|it| format!("{it:?}")), library.map(|it| format!("{:?}", it.into_owned())));
                prop_assert_eq!(ours, library, "{}", name);
            }
        }
    }

    #[test]
    fn other_names_are_no_conversions() {
        for name in ["bytes", "size", "dyn", "Int", ""] {
            assert!(conversion(name).is_none(), "{name}");
        }
    }
}
