//! Names of a network as names in Python.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Words of the language, and names that generated code uses itself.
const RESERVED: &[&str] = &[
    "False",
    "None",
    "True",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "global",
    "if",
    "import",
    "in",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "while",
    "with",
    "yield",
    "self",
    "torch",
    "math",
    "nn",
    "F",
    "json",
    "range",
    "tuple",
    "len",
    "int",
    "max",
    "sum",
    "Store",
    "same_padding",
    "average_pool",
    "flatten_from",
    "softmax_from",
    "numbers",
    "reshape",
    "expand",
    "gather",
    "slice_axes",
    "split",
    "divide",
    "gemm",
    "arange",
];

/// Attributes that every module has, and those of the network's own classes.
const MODULE_ATTRIBUTES: &[&str] = &[
    "add",
    "add_constant",
    "add_module",
    "apply",
    "attributes",
    "bfloat16",
    "bias",
    "buffers",
    "call_super_init",
    "children",
    "compile",
    "cpu",
    "cuda",
    "double",
    "dump_patches",
    "eval",
    "extra_repr",
    "float",
    "forward",
    "get_buffer",
    "get_extra_state",
    "get_parameter",
    "get_submodule",
    "half",
    "input",
    "ipu",
    "layers",
    "load_state_dict",
    "modules",
    "mtia",
    "named_buffers",
    "named_children",
    "named_modules",
    "named_parameters",
    "parameters",
    "parent",
    "register_backward_hook",
    "register_buffer",
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
    "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook",
    "register_module",
    "register_parameter",
    "register_state_dict_post_hook",
    "register_state_dict_pre_hook",
    "requires_grad_",
    "set_extra_state",
    "set_submodule",
    "share_memory",
    "state_dict",
    "store",
    "T_destination",
    "to",
    "to_empty",
    "train",
    "training",
    "type",
    "weight",
    "xpu",
    "zero_grad",
];

/// `text` as one name of the language: other characters become `_`.
fn identifier(text: &str, reserved: &[&str]) -> String {
    let mut name: String = text
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '_'
            }
        })
        .collect();
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        name.insert(0, '_');
    }
    if reserved.contains(&name.as_str()) {
        name.push('_');
    }
    name
}

/// Names of local variables.
#[derive(Debug, Default)]
pub(super) struct Variables(BTreeSet<String>);

impl Variables {
    /// A name like `wanted` that no other variable has.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let trimmed = wanted.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
        let base = identifier(trimmed, RESERVED);
        let mut name = base.clone();
        let mut suffix = 1;
        while !self.0.insert(name.clone()) {
            suffix += 1;
            name = format!("{base}_{suffix}");
        }
        name
    }
}

/// Paths of modules and tensors in a network: names with dots in between.
#[derive(Debug, Default)]
pub(super) struct ModulePaths(BTreeSet<String>);

impl ModulePaths {
    /// The path of a layer or constant: its name, with `/` as another dot.
    ///
    /// A name that cannot be a path of its own, because another lies above or below it, is flattened.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let segments: Vec<String> = wanted
            .split(['.', '/'])
            .filter(|segment| !segment.is_empty())
            .map(segment)
            .collect();
        let path = segments.join(".");
        if !path.is_empty() && self.is_free(&path) {
            self.0.insert(path.clone());
            return path;
        }
        let flat = identifier(&segments.join("_"), MODULE_ATTRIBUTES);
        let mut name = flat.clone();
        let mut suffix = 1;
        while !self.is_free(&name) {
            suffix += 1;
            name = format!("{flat}_{suffix}");
        }
        self.0.insert(name.clone());
        name
    }

    fn is_free(&self, path: &str) -> bool {
        let is_above = |upper: &str, lower: &str| {
            lower
                .strip_prefix(upper)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !self
            .0
            .iter()
            .any(|taken| is_above(taken, path) || is_above(path, taken))
    }
}

/// A part of a path: a number, or a name that no module has as an attribute.
fn segment(text: &str) -> String {
    if text.chars().all(|letter| letter.is_ascii_digit()) {
        return text.to_owned();
    }
    let reserved = if RESERVED.contains(&text) {
        RESERVED
    } else {
        MODULE_ATTRIBUTES
    };
    identifier(text, reserved)
}

/// The expression that reaches a module from the network.
pub(super) fn reached(path: &str) -> String {
    let mut text = "self".to_owned();
    for part in path.split('.') {
        if part.starts_with(|first: char| first.is_ascii_digit()) {
            write!(text, "[{part}]").ok();
        } else {
            text.push('.');
            text.push_str(part);
        }
    }
    text
}

/// A text in Python.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A number in Python, exact for `f32`.
pub(super) fn float(value: f32) -> String {
    if value.is_nan() {
        "math.nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "math.inf" } else { "-math.inf" }.to_owned()
    } else {
        format!("{value:?}")
    }
}

/// A tuple in Python.
pub(super) fn tuple<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    let parts: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    match parts.as_slice() {
        [only] => format!("({only},)"),
        _ => format!("({})", parts.join(", ")),
    }
}

/// A list in Python.
pub(super) fn list<T: std::fmt::Display>(values: impl IntoIterator<Item = T>) -> String {
    let parts: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_stay_what_they_are_where_they_can() {
        let mut paths = ModulePaths::default();
        for (wanted, path, expression) in [
            ("layer1.0.conv1", "layer1.0.conv1", "self.layer1[0].conv1"),
            (
                "/layer1/layer1.1/conv/Conv",
                "layer1.layer1.1.conv.Conv",
                "self.layer1.layer1[1].conv.Conv",
            ),
            ("layer1.0", "layer1_0", "self.layer1_0"),
            (
                "layer1.0.conv1.weight",
                "layer1_0_conv1_weight_",
                "self.layer1_0_conv1_weight_",
            ),
            ("type", "type_", "self.type_"),
            ("global.3x3", "global_._3x3", "self.global_._3x3"),
            ("größe", "gr__e", "self.gr__e"),
            ("", "_", "self._"),
        ] {
            let found = paths.fresh(wanted);
            assert_eq!(found, path, "{wanted:?}");
            assert_eq!(reached(&found), expression, "{wanted:?}");
        }
    }

    #[test]
    fn variables_are_different_and_no_words_of_the_language() {
        let mut variables = Variables::default();
        let names = [
            "/relu/Relu",
            "relu.Relu",
            "lambda",
            "0",
            "F",
            "\"); import os",
        ];
        let names = names.map(|name| variables.fresh(name));
        assert_eq!(
            names,
            [
                "relu_Relu",
                "relu_Relu_2",
                "lambda_",
                "_0",
                "F_",
                "import_os"
            ]
        );
    }

    #[test]
    fn texts_and_numbers_are_those_of_python() {
        assert_eq!(quoted("a\"\n\\"), "\"a\\\"\\n\\\\\"");
        assert_eq!(float(0.1), "0.1");
        assert_eq!(float(f32::NEG_INFINITY), "-math.inf");
        assert_eq!(float(6.0), "6.0");
        assert_eq!(tuple([1]), "(1,)");
        assert_eq!(tuple([1, 2]), "(1, 2)");
    }
}
