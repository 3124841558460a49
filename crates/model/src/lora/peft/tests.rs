//! What PEFT writes, and what of it is refused.

use super::*;

fn config(json: &str) -> Result<Config, Error> {
    Config::of(&serde_json::from_str(json).expect("JSON"))
}

#[test]
fn modules_have_their_names() {
    let check = |module: &str, expect: Option<&str>| {
        assert_eq!(name(module).as_deref(), expect, "{module}");
    };
    check("model.layers.0.self_attn.q_proj", Some("blk.0.attn_q"));
    check("model.layers.11.mlp.gate_up_proj", Some("blk.11.ffn_up"));
    check("layers.3.mlp.down_proj", Some("blk.3.ffn_down"));
    check("lm_head", Some("output"));
    check("model.lm_head", Some("output"));
    check("model.layers.x.self_attn.q_proj", None);
    check("model.layers.-1.self_attn.q_proj", None);
    check("model.layers.99999999999.self_attn.q_proj", None);
    check("players.0.self_attn.q_proj", None);
    check("model.layers.0.mlp.experts.3.up_proj", None);
    check("model.embed_tokens", None);
}

#[test]
fn scales_are_alpha_over_the_rank_or_its_root() {
    let check = |json: &str, module: &str, rank: usize, expect: f64| {
        let config = config(json).expect("sound");
        assert_eq!(config.scale(module, rank).expect("as it says"), expect, "{json}");
    };
    let q = "model.layers.0.self_attn.q_proj";
    check(r#"{"peft_type": "LORA"}"#, q, 8, 1.0);
    check(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 32}"#, q, 4, 8.0);
    check(r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 32, "use_rslora": true}"#, q, 4, 16.0);
    let patterns = r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern":
        {"q_proj": 2, "model.layers.[2-9].mlp.*": 16}, "alpha_pattern": {"layers.0.mlp.*": 20}}"#;
    check(patterns, q, 2, 4.0);
    check(patterns, "model.layers.0.self_attn.v_proj", 4, 2.0);
    check(patterns, "model.layers.0.self_attn.eq_proj", 4, 2.0); // from a dot on
    check(patterns, "model.layers.0.mlp.up_proj", 4, 5.0);
    check(patterns, "model.layers.3.mlp.up_proj", 16, 0.5);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let check = |json: &str, expect: &str| {
        let error = config(json).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error}");
    };
    check(r"{}", "peft_type");
    check(r#"{"peft_type": "IA3"}"#, "`peft_type: \"IA3\"`");
    for (field, value) in [
        ("use_dora", "true"),
        ("modules_to_save", r#"["lm_head"]"#),
        ("bias", r#""all""#),
        ("lora_bias", "true"),
        ("layer_replication", "[[0, 4], [2, 5]]"),
        ("trainable_token_indices", "[1, 2]"),
        ("alora_invocation_tokens", "[7]"),
        ("target_parameters", r#"["experts.gate_up_proj"]"#),
        ("use_qalora", "true"),
        ("init_lora_weights", r#""pissa_niter_4""#),
        ("init_lora_weights", r#""olora""#),
        ("something_new", r#"{"a": 1}"#),
        ("r", r#""8""#),
        ("use_rslora", "1"),
        ("rank_pattern", "[3]"),
    ] {
        check(&format!(r#"{{"peft_type": "LORA", "{field}": {value}}}"#), &format!("`{field}:"));
    }
    check(r#"{"peft_type": "LORA", "rank_pattern": {"q(": 3}}"#, "rank_pattern");
    check(r#"{"peft_type": "LORA", "alpha_pattern": {"q": "3"}}"#, "alpha_pattern");
    let bomb = r#"{"peft_type": "LORA", "rank_pattern": {"((a{99}){99}){99}": 3}}"#;
    check(bomb, "rank_pattern");
    let config = config(
        r#"{"peft_type": "LORA", "bias": "none", "use_dora": false,
        "modules_to_save": null, "layer_replication": [], "arrow_config": {},
        "init_lora_weights": "gaussian", "r": 2}"#,
    );
    let error = config.expect("says nothing").scale("q_proj", 3).expect_err("ranks differ");
    assert!(error.to_string().contains("rank for q_proj is 3, and it says 2"), "{error}");
}
