#!/usr/bin/env bash
# Plants one bug after the other, each a line that someone could get wrong, and looks whether the tests notice: the proof
# that they can fail. Works on a copy below target/, and leaves the sources alone.
#
#   tests/planted.sh            all of them; some minutes each at first, then about one
#   tests/planted.sh 3 17       only these
#   tests/planted.sh lines      none: only whether each line is still in the sources, just once; a second
#
# Ends with 0 if every bug was found. Needs git, perl and what the tests need.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/planted
export CARGO_TARGET_DIR=$work/target SIMULATOR_SEEDS=${SIMULATOR_SEEDS:-5000} RUST_BACKTRACE=0
rm -rf "$work/tree" && mkdir -p "$work/tree"
git archive HEAD | tar x -C "$work/tree"

number=0 planted=0 found=0
wanted=" $* "

# bug WORDS FILE LINE INSTEAD [TESTS]: LINE, which occurs once, is planted as INSTEAD. TESTS of the integration binary are
# run before the others: those that are likely to notice.
bug() {
  number=$((number + 1))
  [[ $wanted =~ ^"  "$|^" lines "$|" $number " ]] || return 0
  planted=$((planted + 1))
  local words=$1 file=$work/tree/$2 begun=$SECONDS by=
  cp "$file" "$work/whole"
  FROM=$3 TO=$4 perl -0pi -e '$n = s/\Q$ENV{FROM}\E/$ENV{TO}/g; END { exit($n == 1 ? 0 : 1) }' "$file" ||
    { echo "$number. $words: the line is not there, or not once; the script has to follow the sources" >&2; exit 2; }
  if [ "$wanted" = " lines " ]; then
    cp "$work/whole" "$file"
    return 0
  fi
  for part in ${5:+"--test main $5"} "--lib" "--test simulator no_seed" "--test main"; do
    # shellcheck disable=SC2086
    if ! (cd "$work/tree" && cargo test --locked --no-run $part) >"$work/log" 2>&1; then
      echo "$number. $words: does not compile, see $work/log" >&2
      exit 2
    fi
    # shellcheck disable=SC2086
    if ! (cd "$work/tree" && timeout 1200 cargo test --locked $part) >"$work/log" 2>&1; then
      by=$(grep -oE '^test .* \.\.\. FAILED' "$work/log" | sed 's/^test //; s/ \.\.\. FAILED//' | head -3 | paste -sd' ')
      by=${by:-"${part#--test } (it did not end)"}
      break
    fi
  done
  cp "$work/whole" "$file"
  if [ -n "$by" ]; then
    found=$((found + 1))
    echo "$number. $words: found by $by ($((SECONDS - begun)) s)"
  else
    echo "$number. $words: NOT FOUND ($((SECONDS - begun)) s)"
  fi
}

bug "a file that moved is sent to its end all the same" src/local/read.rs \
  'self.root.look_of(&open).observed == Observed::File(self.version)' 'true || self.root.look_of(&open).observed == Observed::File(self.version)'
bug "a modification time put back hides a change" src/mirror/decide.rs \
  'known == stat => Decision::Nothing' '(known.size, known.mtime) == (stat.size, stat.mtime) => Decision::Nothing'
bug "a file read in the tick of its change is believed" src/upload/errand.rs \
  'if stat.is_racy(read_from) {' 'if stat.is_racy(read_from) && stat.size > 1 << 40 {' figures::an_edit
bug "bytes that dStor may have replaced are compared instead of sent" src/upload/errand.rs \
  'Decision::Compare(digest) if !self.claim.is_unsure' 'Decision::Compare(digest)'
bug "a path saved again during its upload is settled" src/ledger/settle.rs \
  '"DELETE FROM changes WHERE directory_id = ?1 AND name = ?2 AND generation = ?3"' '"DELETE FROM changes WHERE directory_id = ?1 AND name = ?2 AND ?3 > 0"'
bug "an upload that ended without word leaves no doubt" src/ledger/settle.rs \
  'unsure = max(unsure, ?7)' 'unsure = min(unsure, ?7)'
bug "what a killed agent was sending leaves no doubt" src/ledger/due.rs \
  '"UPDATE changes SET claimed = 0, unsure = 1 WHERE claimed = 1"' '"UPDATE changes SET claimed = 0 WHERE claimed = 1"'
bug "lost events make no scan" src/mirror/vigil.rs \
  'self.scan_by(now + BETWEEN_SCANS);' 'let _ = now + BETWEEN_SCANS;'
bug "after the first scan there is no other" src/mirror/vigil.rs \
  'self.is_scanning = false;
        match end' 'match end'
bug "any directory in the place of the mirror is believed" src/upload/recognise.rs \
  'sample.is_empty() || sample.iter().any(is_there)' 'sample.is_empty() || sample.iter().any(is_there) || true' roots::
bug "a worker looks into whatever directory is there" src/upload/folder.rs \
  'Some(identity) => OpenRoot::open(&self.path, Some(identity)),' 'Some(_) => OpenRoot::open(&self.path, None),' roots::
bug "while dStor is down everyone asks" src/mirror/pace.rs \
  'self.gate = Gate::Probing { failures };
                true' 'self.gate = Gate::Closed { until: now, failures };
                true'
bug "how long dStor asks to wait is not heard" src/mirror/pace.rs \
  'Verdict::Retry(asked) => asked,' 'Verdict::Retry(_) => None::<Duration>,'
bug "a refused key is asked about each time" src/dstor/lease.rs \
  'now.saturating_sub(*at) < ASK_AGAIN' 'now.saturating_sub(*at) > ASK_AGAIN'
bug "each refused request fetches a token of its own" src/dstor/lease.rs \
  'if wish.refused == Some(leased.number) ||' 'if wish.refused.is_some() ||'
bug "a file is read before it is quiet" src/upload/errand.rs \
  'let wait = quiet_in(stat, now, wanted);' 'let wait = quiet_in(stat, now, wanted).min(0);' agent::
bug "a refused file is asked about for ever" src/mirror/fault.rs \
  'Self::Refused { .. } => Verdict::Park,' 'Self::Refused { .. } => Verdict::Retry(None),' faults::
bug "a file that is always broken off is tried for ever" src/mirror/fault.rs \
  'Self::BrokenOff(_) if times >= Self::BREAKS => Verdict::Park,' \
  'Self::BrokenOff(_) if times >= Self::BREAKS => Verdict::Retry(None),' broken_off::
bug "what lay below a removed directory is still called stored" src/ledger/settle.rs \
  'if self.known_directory(mirror, path)?.is_some() {' 'if self.known_directory(mirror, path)?.is_none() {'
bug "the watcher passes over an overflow" src/local/watch/inotify.rs \
  'ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT' 'ReadFlags::UNMOUNT'
bug "a link in a path is followed" src/local/root.rs \
  'let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;' 'let within = ResolveFlags::empty();' security::racer
bug "redirects are followed, with everything that was sent" src/dstor/http.rs \
  '.redirect(redirect::Policy::none())' '.redirect(redirect::Policy::limited(5))' security::wire
bug "an answer without a hash counts as stored" src/dstor/wire.rs \
  'None => Err(BadAnswer::Useless("it has no hash")),' 'None => Ok(Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").unwrap_or_else(|_| unreachable!())),'
bug "what a server says acts on the terminal" src/mirror/path.rs \
  'if c.is_control() || acts_unseen(c) {' 'if c == '"'"'\u{7f}'"'"' || acts_unseen(c) {'
bug "a second agent may write the same ledger" src/ledger/lock.rs \
  'Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_TRIES),' 'Err(TryLockError::WouldBlock) => return Ok(Self { _file: file }),' restart::
bug "a name that a session does not tell of counts as stored" src/upload/pack.rs \
  'match listing.hash(&file.name).cloned() {' 'match listing.hash(&file.name).cloned().or(content.cid.clone()) {'
bug "files that may have arrived in a session are put back without a doubt" src/upload/pack.rs \
  'if is_over_some_time && !failure.is_unsure {' 'if is_over_some_time {' sessions::files_of
bug "the next run goes on with half a line of the log" src/journal/writer.rs \
  'if self.length > 0 && last != *b"\n" {' 'if self.length > 0 && last == *b"\0" {' log::
bug "who follows the log loses what was written before it was renewed" src/journal/reader.rs \
  'return Ok(!self.is_newest);' 'if self.is_newest { return Ok(false); }'
bug "lines that the log leaves out are not told of" src/journal/writer.rs \
  'if lost > 0 {' 'if lost == u64::MAX {'
bug "commands for alerts are given the credentials" src/agent/alerter.rs \
  'shell.env_remove(secret);' 'let _ = secret;' alerts::
bug "a person is told of what is over in a moment" src/mirror/alarm.rs \
  'const SURE: u32 = 2;' 'const SURE: u32 = 1;'
bug "the heartbeat goes on though files wait" src/agent/alerter.rs \
  'if !is_stored || status.needs_attention() {' 'if is_stored && status.needs_attention() {' alerts::
bug "the agent stores a list of files that has not changed" src/agent/lister.rs \
  'is_another && now' 'now'
bug "no limit holds between midnight and the first of the timetable" src/mirror/rate.rs \
  'begun.or(self.entries.last()).and_then' 'begun.and_then'
bug "an upload that waits for its turn counts as one that stands still" src/dstor/throttle.rs \
  '            sign();' '            let _ = &sign;'
bug "senseless answers need not come in a row to give a file up" src/upload/errand.rs \
  'if was_nonsense == is_nonsense { self.claim.breaks } else { 0 }' 'if was_nonsense == is_nonsense { self.claim.breaks } else { self.claim.attempts }'
bug "small files go as they are, though they should be encrypted" src/upload/reader.rs \
  'match recipients.map(Sealer::new) {' 'match recipients.map(Sealer::new).filter(|_| false) {' encrypt::
bug "what dStor holds encrypted counts as public" src/mirror/guard.rs \
  'None | Some(Recorded { is_sealed: true, .. }) => false,' 'None => false,' held::
bug "who can encrypt can give another file in an encrypted one's place" src/restore/landing.rs \
  'let came = Came { digest: landed.as_ref().map(|(_, digest, _)| *digest), is_longer, is_page };' \
  'let came = Came { digest: landed.as_ref().map(|_| wanted.digest), is_longer, is_page };' encrypt::

bug "a hidden name goes as it is" src/mirror/names.rs \
  'Self::Hidden(key) => key.pseudonym(path),' 'Self::Hidden(_) => path.clone(),' encrypt::names
bug "a problem is forgotten when the configuration is read again" src/agent/mod.rs \
  '            told: Arc::clone(told),' '            told: { let _ = told; Arc::default() },' alerts::

if [ "$wanted" = " lines " ]; then
  echo "lines that are there, once each: $planted of $number"
  exit 0
fi
echo "planted bugs found: $found of $planted"
[ "$found" = "$planted" ]
