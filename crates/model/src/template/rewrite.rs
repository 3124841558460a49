//! What templates say that the template engine does not know, said so that it does: marks of
//! training, and lists that grow and shrink in place. Absent: lists that have two names, of which
//! one is changed; no published template does that.

use regex::Regex;

/// A tag, and what is written for it.
const TAGS: &[(&str, &str)] = &[
    // `generation` marks what training learns from; rendering takes it for a plain scope.
    (r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}", "{%$1 ${2}with $3%}"),
    // Values never change, but what a namespace holds may be another one.
    (
        r"\{%([-+]?)\s*(?:set\s+\w+\s*=|do)\s*(\w+\.\w+)\.append\(([^%{}]*)\)\s*([-+]?)%\}",
        "{%$1 set $2 = $2 + [$3] $4%}",
    ),
    (
        r"\{%([-+]?)\s*set\s+(\w+)\s*=\s*(\w+\.\w+)\.pop\(0\)\s*([-+]?)%\}",
        "{%$1 set $2 = $3[0] %}{% set $3 = $3[1:] $4%}",
    ),
];

/// The template in the engine's own words.
pub(super) fn rewritten(source: &str) -> String {
    TAGS.iter().fold(source.to_owned(), |source, (pattern, written)| {
        let tag = Regex::new(pattern).expect("a tested pattern");
        tag.replace_all(&source, *written).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_rewritten() {
        let check = |source: &str, expect: &str| assert_eq!(rewritten(source), expect);
        check("{%- generation %}a{% endgeneration -%}", "{%- with %}a{% endwith -%}");
        check("{%- set _ = q.ids.append(f(x)) -%}", "{%- set q.ids = q.ids + [f(x)] -%}");
        check("{% do q.ids.append(x) %}", "{% set q.ids = q.ids + [x] %}");
        check("{% set a = q.ids.pop(0) -%}", "{% set a = q.ids[0] %}{% set q.ids = q.ids[1:] -%}");
        for alone in ["{% set _ = ids.append(x) %}", "{{ q.ids.append(x) }}", "q.ids.append(x)"] {
            check(alone, alone);
        }
    }

    #[test]
    fn lists_grow_and_shrink_as_in_python() {
        let source = "{%- set q = namespace(ids=[]) -%}\
            {%- macro add(x) -%}{%- set _ = q.ids.append(x) -%}{%- endmacro -%}\
            {%- for x in [1, 2, 3] -%}{{ add(x) }}{%- endfor -%}\
            {%- for y in 'ab' -%}{%- set one = q.ids.pop(0) -%}{{ one }}{%- endfor -%}\
            :{{ q.ids }}";
        let mut environment = minijinja::Environment::new();
        environment.add_template_owned("t", rewritten(source)).expect("a template");
        let told = environment.get_template("t").expect("it").render(()).expect("renders");
        assert_eq!(told, "12:[3]");
    }
}
