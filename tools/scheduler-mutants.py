#!/usr/bin/env python3
"""Plants bugs in a copy of the scheduler, one at a time, and runs the simulation against each.

Every mutant is tried twice: as it is, and with the scheduler's own `check()` silenced, so that the
simulation has to notice by what it sees from outside. Writes docs/scheduler-mutants.md; exits 1
where a mutant survives, or where its text no longer occurs exactly once in the source.

Usage: tools/scheduler-mutants.py [SCRATCH_DIR] [PART_OF_A_NAME]   (needs cargo, nothing else)
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATE = ROOT / "crates" / "scheduler"
MANIFEST = '[package]\nname = "ingle-scheduler"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n'
LIB, BLOCKS, FAIR = "lib.rs", "blocks.rs", "fairness.rs"

# What is wrong, in which file, the right text, the wrong text.
MUTANTS = [
    ("A block is freed while others use it", BLOCKS, "if block.users > 0 {", "if block.users > 1 {"),
    ("Holding a block does not count", BLOCKS, "            block.users += 1;\n", ""),
    ("A held block stays evictable", BLOCKS, "self.idle.remove(&published.released);", ""),
    ("Any block is evicted, used or not", BLOCKS, "let (_, id) = self.idle.pop_first().expect(\"counted by `available`\");",
     "self.idle.pop_first(); let id = self.by_key.values().copied().next().expect(\"some\");"),
    ("The most recently used block is evicted", BLOCKS, "self.idle.pop_first()", "self.idle.pop_last()"),
    ("Blocks are released first to last", BLOCKS, "for id in blocks.into_iter().rev()", "for id in blocks"),
    ("An evicted block can still be found", BLOCKS, "            self.by_key.remove(&old.key);\n", "            let _ = old;\n"),
    ("A taken block keeps its old name", BLOCKS, "self.blocks[id.at()].published.take().expect(\"an idle block is published\")",
     "self.blocks[id.at()].published.as_ref().expect(\"an idle block is published\")"),
    ("Taking an empty block evicts another", BLOCKS, "let id = self.empty.pop().unwrap_or_else(|| {",
     "let id = self.empty.pop().inspect(|_| { if let Some((_, old)) = self.idle.pop_first() { let name = self.blocks[old.at()].published.take().expect(\"idle\"); self.by_key.remove(&name.key); self.empty.push(old); } }).unwrap_or_else(|| {"),
    ("Published blocks are used up before empty ones", BLOCKS, "let id = self.empty.pop().unwrap_or_else(|| {",
     "let id = if self.idle.is_empty() { self.empty.pop() } else { None }.unwrap_or_else(|| {"),
    ("A key leaves the prefix out", BLOCKS, "[prefix as u32, (prefix >> 32) as u32].into_iter()", "[prefix as u32 * 0, 0].into_iter()"),
    ("A chain's number is used again", BLOCKS, "        self.next_chain += 1;\n", "        self.next_chain = Chain::FIRST.0 + self.next_chain % 7;\n"),
    ("A chain stands still", BLOCKS, "chain = self.chain_of(id);", "let _ = &mut chain;"),
    ("The last to publish wins", BLOCKS, "self.by_key.get(&key(prefix.chain, tokens)) {", "self.by_key.get(&key(prefix.chain, tokens)).filter(|_| false) {"),
    ("A twin's own block is not given back", BLOCKS, "            self.release(vec![own]);\n", ""),
    ("A twin is used without being held", BLOCKS, "            self.hold(&[twin]);\n", ""),
    ("A found prefix may leave nothing to compute", LIB, "self.computed..self.tokens.len() - 1]", "self.computed..self.tokens.len()]"),
    ("A found prefix is never used", LIB, "if self.salt.is_none() || self.computed", "if true || self.computed"),
    ("Who does not share uses what others computed", LIB, "if self.salt.is_none() || self.computed", "if self.computed"),
    ("Who does not share is used by others", LIB, "        if seq.salt.is_none() {\n            return;\n        }\n", ""),
    ("A block is published before it is full", LIB, "..end / block_tokens;", "..end.div_ceil(block_tokens).min(seq.tokens.len() / block_tokens).min(seq.blocks.len());"),
    ("Blocks are published before they are computed", LIB, "..end / block_tokens;", "..(seq.tokens.len() / block_tokens).min(seq.blocks.len());"),
    ("Only the first block of a chunk is published", LIB, "for at in filled {", "for at in filled.take(1) {"),
    ("What was published is published under no prefix", LIB, "            seq.chain = self.pool.chain_of(seq.blocks[at]);\n", ""),
    ("The chain of a found prefix is forgotten", LIB, "seq.chain = self.pool.chain_of(last);", "let _ = last;"),
    ("One block too few", LIB, "self.pool.take(end.div_ceil(block_tokens) - held)", "self.pool.take(((end - 1).max(1)).div_ceil(block_tokens).max(held) - held)"),
    ("One block too many", LIB, "self.pool.take(end.div_ceil(block_tokens) - held)", "self.pool.take((end + 1).div_ceil(block_tokens) - held)"),
    ("Found blocks are counted as room, too", LIB, "if missing + self.pool.idle_among(&found) > ", "if missing > "),
    ("A newcomer needs room for its first chunk only", LIB, "if newcomer { seq.tokens.len() } else { end }", "{ let _ = newcomer; end }"),
    ("The last step's plan stays", LIB, "(seq.computed, seq.planned, seq.drafted) = (end, 0, 0);", "(seq.computed, seq.drafted) = (end, 0);"),
    ("The budget is not spent", LIB, "*budget -= seq.planned;", "let _ = &budget;"),
    ("Every chunk is sampled", LIB, "let sample = end == seq.tokens.len();", "let sample = true;"),
    ("A recomputed sequence counts its own prefix as found", LIB, "seq.cached += start.saturating_sub(seq.seen);", "seq.cached = start;"),
    ("The oldest makes room", LIB, "self.running.pop().expect(\"one sequence alone always fits, see `add`\")", "self.running.remove(0)"),
    ("Who makes room does not wait", LIB, "        self.fairness.wait(seq.rank, id);\n", ""),
    ("Who makes room counts as a newcomer", LIB, "self.fairness.wait(seq.rank, id);", "self.fairness.enter(seq.rank, id);"),
    ("Who makes room keeps its progress", LIB, "(seq.computed, seq.chain) = (0, seq.root());", "seq.chain = seq.root();"),
    ("Who makes room keeps its chain", LIB, "(seq.computed, seq.chain) = (0, seq.root());", "seq.computed = 0;"),
    ("Who makes room keeps its blocks", LIB, "self.pool.release(std::mem::take(&mut seq.blocks));", "seq.blocks.clear();"),
    ("A cancelled sequence keeps its blocks", LIB, "            self.pool.release(seq.blocks);\n", "            drop(seq.blocks);\n"),
    ("A cancelled sequence keeps its place", LIB, "            self.running.retain(|&other| other != id);\n", ""),
    ("The youngest of an owner is first", FAIR, "*account.waiting.first()?", "*account.waiting.last()?"),
    ("A sequence gets one token too many", LIB, "seq.tokens.len() == seq.len_max", "seq.tokens.len() > seq.len_max"),
    ("What can never fit is let in", LIB, "if blocks_needed > self.limits.blocks {", "if blocks_needed > self.limits.blocks + 1 {"),
    ("What just fits is refused", LIB, "self.blocks_for(len_max - 1)", "self.blocks_for(len_max)"),
    ("The queue takes one too many", LIB, "self.fairness.waiting() >= self.limits.waiting", "self.fairness.waiting() > self.limits.waiting"),
    ("More run than may", LIB, "open &= self.running.len() < self.limits.running;", "open &= true;"),
    ("More run than a step has tokens", LIB, "running: running.min(step_tokens)", "running: running.max(1)"),
    ("Whoever waits is due", LIB, "self.fairness.waiting().min(open)", "self.fairness.waiting() + open - open"),
    ("Prompts that run are not due", LIB, "self.running.len() - answers + ", "0 * answers + "),
    ("Answers have to wait for prompts", LIB, "if self.seqs[&id].behind() == 1 {", "if self.seqs[&id].behind() == 1 && at == 0 {"),
    ("Prompts come before answers", LIB, "if self.seqs[&id].behind() == 1 {", "if self.seqs[&id].behind() >= 1 {"),
    ("Answers do not keep prompts short", LIB, "let beside = if chunks.is_empty() {", "let beside = if true {"),
    ("Prompts are kept short where nobody answers", LIB, "let beside = if chunks.is_empty() {", "let beside = if false {"),
    ("Beside answers no prompt gets on", LIB, "prefill_tokens.max(1)", "prefill_tokens"),
    ("What is held back from prompts is lost to drafts", LIB, "        budget += held_back;\n", ""),
    ("A newcomer overtakes one who finds no room", LIB, "open &= chunk.is_some() || newcomer != Some(id);", "if chunk.is_none() && newcomer == Some(id) { break; }"),
    ("Those further behind go before newcomers", LIB, "behind.iter().copied().chain(newcomer).min_by_key(turn)", "behind.iter().copied().min_by_key(turn).or(newcomer)"),
    ("Nobody's needs are kept free", LIB, "let reserved = if newcomer { self.reserved() } else { 0 };", "let reserved = 0;"),
    ("A draft takes what a prompt needs", LIB, "self.pool.available().saturating_sub(self.reserved())", "self.pool.available()"),
    ("The most urgent makes room", LIB, "self.seqs[other].rank.priority <= rank.priority;", "self.seqs[other].rank.priority >= rank.priority;"),
    ("Who is admitted goes before its equals", LIB, "self.seqs[other].rank.priority <= rank.priority;", "self.seqs[other].rank.priority < rank.priority;"),
    ("Prompts cost nothing", LIB, "self.fairness.charge(seq.rank, fresh as u64 * PROMPT_WEIGHT);", "let _ = (fresh, PROMPT_WEIGHT);"),
    ("Answers cost nothing", LIB, "self.fairness.charge(seq.rank, OUTPUT_WEIGHT);", "let _ = OUTPUT_WEIGHT;"),
    ("What is found is paid for", LIB, "saturating_sub(start.max(seq.seen));", "saturating_sub(seq.seen);"),
    ("What is computed again is paid for again", LIB, "saturating_sub(start.max(seq.seen));", "saturating_sub(start);"),
    ("Time spent away is saved up", FAIR, "account.had = account.had.max(floor);", "let _ = floor;"),
    ("Who comes late is lifted to the most", FAIR, "account.had).min().unwrap_or(", "account.had).max().unwrap_or("),
    ("Where nobody waits, nobody is lifted", FAIR, "unwrap_or(class.clock)", "unwrap_or(0)"),
    ("The clock stands still", FAIR, "class.clock = class.clock.max(account.had);", ""),
    ("Who has had most is next", FAIR, "filter_map(turn).min().map", "filter_map(turn).max().map"),
    ("What was had does not count", FAIR, "Some((account.had, *account", "Some((account.had * 0, *account"),
    ("The least urgent is next", FAIR, "self.classes.values().find(", "self.classes.values().rev().find("),
    ("Who runs already goes by age alone", FAIR, "(rank.priority, self.had(rank), id)", "(rank.priority, 0, id)"),
    ("An owner who is known is forgotten", FAIR, "account.live > 0 || account.had > self.clock", "account.live > 0"),
    ("Who left still waits", FAIR, "        account.waiting.remove(&id);\n        account.live -= 1;\n", "        account.live -= 1;\n"),
    ("Who is gone is still counted", FAIR, "        account.live -= 1;\n", ""),
    ("Whatever was drafted counts as true", LIB, "goes_on = drafted.is_some_and(|&drafted| came == Outcome::Continue(drafted));", "goes_on = drafted.is_some() && came != Outcome::Stop; let _ = Outcome::Continue(0);"),
    ("A draft that came true is computed again", LIB, "                accepted += usize::from(goes_on);\n", "                accepted += usize::from(goes_on);\n                if !goes_on { accepted = 0; }\n"),
    ("The wrong draft counts as computed", LIB, "- chunk.draft.len() + accepted;", "- chunk.draft.len() + (accepted + 1).min(chunk.draft.len());"),
    ("All that was planned counts as computed", LIB, "- chunk.draft.len() + accepted;", "- chunk.draft.len() + accepted.max(chunk.draft.len());"),
    ("Blocks with wrong drafts are published", LIB, "let filled = seq.computed / block_tokens..end / block_tokens;", "let filled = seq.computed / block_tokens..(chunk.positions.end / block_tokens).min(seq.tokens.len() / block_tokens);"),
    ("Blocks of wrong drafts are kept", LIB, "        self.pool.release(seq.blocks.split_off(end.div_ceil(block_tokens)));\n", ""),
    ("Blocks of wrong drafts are lost", LIB, "        self.pool.release(seq.blocks.split_off(end.div_ceil(block_tokens)));\n", "        seq.blocks.truncate(end.div_ceil(block_tokens));\n"),
    ("A draft is not paid for", LIB, "        *budget -= draft.len();\n", ""),
    ("A draft goes beyond the sequence's end", LIB, "room.min(seq.len_max - 1)", "room.min(seq.len_max)"),
    ("A draft goes beyond the step", LIB, ".min(chunk.positions.end.saturating_add(*budget));", ".min(chunk.positions.end.saturating_add(*budget + 1)); *budget += 1;"),
    ("A draft gets no block of its own", LIB, "let room = (seq.blocks.len() + spare) * block_tokens;", "let room = seq.blocks.len() * block_tokens;"),
    ("A draft is tried in every later step", LIB, "std::mem::take(&mut self.drafts);", "self.drafts.clone();"),
    ("A draft is taken before the prompt is done", LIB, "chunks.iter_mut().filter(|chunk| chunk.sample)", "chunks.iter_mut()"),
    ("The former draft stays", LIB, "self.drafts.insert(id, tokens.to_vec());", "self.drafts.entry(id).or_insert_with(|| tokens.to_vec());"),
    ("Who took a draft may have been found it", LIB, "(end, 0, 0);\n        seq.seen = seq.seen.max(end);\n", "(end, 0, 0);\n"),
    ("Who is admitted still waits", LIB, "        self.fairness.admit(rank, id);\n", ""),
    ("All salts have one root", BLOCKS, "Self(salt.0)", "Self(salt.0 * 0)"),
    ("Who makes room loses his salt", LIB, "(seq.computed, seq.chain) = (0, seq.root());", "(seq.computed, seq.chain) = (0, Chain::root(Salt(0)));"),
    ("A salt counts from the second block on", LIB, "chain: Chain::root(salt.unwrap_or_default()),", "chain: Chain::root(Salt(0)),"),
    ("What is adopted belongs to all", LIB, "self.pool.adopt(Chain::root(salt), tokens, known)", "self.pool.adopt(Chain::root(Salt(salt.0 * 0)), tokens, known)"),
    ("What is adopted needs no prefix", BLOCKS, "if held.len() < known {", "if held.len() + 1 < known {"),
    ("What is adopted is never there already", BLOCKS, "let mut held = self.find(root, tokens);", "let mut held = self.find(root, &tokens[..known * self.block_tokens]);"),
    ("What is adopted takes its own prefix's room", BLOCKS, "        self.hold(&held);\n        let first", "        let first"),
    ("One is adopted too few", BLOCKS, ".take(self.available())", ".take(self.available().saturating_sub(1))"),
    ("What is adopted is kept for ever", BLOCKS, "        self.release(held);\n        adopted", "        adopted"),
    ("What is adopted is released first to last", BLOCKS, "        self.release(held);\n        adopted", "        held.reverse();\n        self.release(held);\n        adopted"),
    ("What is adopted follows the empty prefix", BLOCKS, "let prefix = self.prefix(root, &held);", "let prefix = self.prefix(root, &held[..0]);"),
    ("What is adopted is told of as fresh", BLOCKS, "            held.push(own);\n", "            held.push(own);\n            self.fresh.insert(self.chain_of(own), own);\n"),
    ("What is evicted stays fresh", BLOCKS, "            self.fresh.remove(&old.chain);\n", ""),
    ("The newest is told of first", BLOCKS, "self.fresh.pop_first()?", "self.fresh.pop_last()?"),
    ("What is fresh is told of twice", BLOCKS, "let (_, block) = self.fresh.pop_first()?;", "let (_, &block) = self.fresh.first_key_value()?;"),
    ("What is fresh is told of backwards", BLOCKS, "        parts.reverse();\n", ""),
    ("What is fresh is told of without its prefix", BLOCKS, "tokens: parts.concat()", "tokens: parts[parts.len() - 1].to_vec()"),
    ("A parent is forgotten", LIB, "let prefix = Prefix { chain: seq.chain, last };", "let prefix = Prefix { chain: seq.chain, last: last.filter(|_| false) };"),
]


def run(copy, mutant, silent):
    """The first seed that fails and its first complaint, or None."""
    _, file, right, wrong = mutant
    shutil.copytree(CRATE / "src", copy / "src", dirs_exist_ok=True)
    path = copy / "src" / file
    text = path.read_text()
    if text.count(right) != 1:
        sys.exit(f"{mutant[0]!r}: its text occurs {text.count(right)} times in {file}")
    path.write_text(text.replace(right, wrong))
    path = copy / "src" / LIB
    path.write_text(path.read_text().replace("pub fn check(&self) {", "pub fn check(&self) { if std::env::var_os(\"SILENT\").is_some() { return; }"))
    env = dict(os.environ, CARGO_PROFILE_RELEASE_OPT_LEVEL="1", CARGO_TARGET_DIR=str(copy / "target"), RUST_BACKTRACE="0", RUSTFLAGS="-Awarnings")
    env |= {"SILENT": "1"} if silent else {}
    built = subprocess.run(["cargo", "test", "--release", "--no-run", "-q", "--test", "simulation"], cwd=copy, env=env, capture_output=True, text=True)
    if built.returncode:
        sys.exit(f"{mutant[0]!r} does not build:\n{built.stderr}")
    command = ["cargo", "test", "--release", "-q", "--test", "simulation", "every_seed"]
    try:
        # Most are caught at once; where not, it takes all of them.
        for seeds in ("500", "20000"):
            tried = dict(env, SEEDS=seeds)
            done = subprocess.run(command, cwd=copy, env=tried, capture_output=True, text=True, timeout=120)
            if done.returncode:
                break
    except subprocess.TimeoutExpired:
        return "?", "does not end"
    if done.returncode == 0:
        return None
    said = done.stdout + done.stderr
    seeds = [int(seed) for seed in re.findall(r"again with SEED=(\d+)", said)]
    if not seeds:
        return "-", "the workload's own demands"
    again = subprocess.run(command, cwd=copy, env=dict(env, SEED=str(min(seeds))), capture_output=True, text=True)
    where, what = re.search(r"panicked at (?:\S*/)?(\w+\.rs):\d+:\d+:\n(.*)", again.stdout + again.stderr).groups()
    what = re.sub(r"^assertion `left == right` failed(: )?|^assertion failed: ", "", what)
    return min(seeds), f"{what.replace('|', '/') or 'an equality'} ({where})"


def main():
    scratch = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="mutants")
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    copy = pathlib.Path(scratch)
    copy.mkdir(parents=True, exist_ok=True)
    (copy / "Cargo.toml").write_text(MANIFEST)
    shutil.copytree(CRATE / "tests", copy / "tests", dirs_exist_ok=True)
    rows, survivors = [], 0
    for mutant in MUTANTS:
        if only not in mutant[0]:
            continue
        cells = [run(copy, mutant, silent) for silent in (False, True)]
        survivors += cells.count(None)
        told = [f"{cell[0]} | {cell[1]}" if cell else "- | **survived**" for cell in cells]
        rows.append(f"| {mutant[0]} | {told[0]} | {told[1]} |")
        print(rows[-1], flush=True)
    head = (ROOT / "docs" / "scheduler-mutants.md").read_text().split("| what is wrong")[0] if not only else ""
    table = "| what is wrong | seed | caught by | seed | without `check()`, by |\n|---|---|---|---|---|\n"
    if not only:
        (ROOT / "docs" / "scheduler-mutants.md").write_text(head + table + "\n".join(rows) + "\n")
    print(f"{len(rows)} mutants, {survivors} survivals")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
