//! Rare situations, and how often each was really met: a simulation that never gets there proves nothing about it.

/// The situations, each with the words in which it is told.
macro_rules! situations {
    ($($name:ident: $words:literal,)*) => {
        /// A situation that is rare in life and has to be met here.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Rare { $(#[doc = $words] $name,)* }

        impl Rare {
            pub(crate) const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $words),)*];
        }
    };
}

situations! {
    Overflow: "the system's event queue overflowed",
    EventLost: "an event was lost without a word",
    EventTwice: "an event came twice",
    EventLate: "an event came late",
    EventOfNothing: "an event told of what was gone by then",
    EventUnderOldName: "an event came under the name that a directory had before",
    MadeUnwatched: "something was made in a directory that nobody watched yet",
    MovedIn: "a directory with content was moved in",
    DirectoryRenamed: "a directory was renamed",
    FileBecameDirectory: "a file became a directory",
    DirectoryBecameFile: "a directory became a file",
    MtimePutBack: "a file was changed and its modification time put back",
    MappedWrite: "a file was written through a memory map",
    NeverQuiet: "a file that never went quiet was read all the same",
    TooLarge: "a file grew too large",
    Link: "a symbolic link took a file's place",
    RulesChanged: "rules changed under files that were stored",
    RootMissing: "the mirror's directory was missing",
    RootMissingInWork: "a worker found the mirror's directory missing",
    RootSwappedInScan: "the mirror's directory was swapped during a scan",
    ChangedInScan: "something changed during a scan",
    OtherRootNotBelieved: "another directory in the mirror's place was not believed",
    RootAccepted: "a person accepted another directory",
    RootBack: "the mirror's directory came back, and what was held went on",
    ClockBack: "the clock was set back",
    ClockAhead: "the clock was set ahead",
    ClockNoticed: "the agent noticed that the clock was set back",
    EmptiedHeld: "many files were suddenly empty, and were held",
    EmptiedAccepted: "a person accepted that files are empty",
    SavedDuringUpload: "a file was saved again during its upload",
    SavedDuringCompare: "a file was saved again while it was compared",
    MovedBeforeRead: "a file moved between being looked at and being read",
    MovedInRead: "a file moved while it was read",
    Torn: "a file changed while it was read and its stat did not show it",
    Racy: "a file was read in the tick in which it changed",
    RacyCaught: "a second comparison found what the tick had hidden",
    Refreshed: "a file was touched, and its bytes were the same",
    SentForDoubt: "a file with known bytes was sent again because dStor might hold others",
    StoredUnheard: "dStor stored a file and its answer was lost",
    ResetBeforeStore: "a connection broke before dStor stored the file",
    Stalled: "a request stalled",
    CutShort: "a connection broke in the midst of a file",
    CutForAll: "a file was cut short while nobody else got through, and that was not held against it",
    AskedForASign: "a file that was cut short had nobody beside it, and dStor was asked whether it is there",
    NoSign: "dStor gave no sign that it is there",
    ParkedForBreaks: "a file was given up after dStor had cut it short many times while it answered others",
    EarlyAnswer: "dStor answered before the whole file was sent",
    TokenRevoked: "dStor refused a token that was good a moment before",
    TokenRefusedToMany: "several requests at a time met the refused token",
    TokenWaitedFor: "a worker waited for the token that another one fetched",
    TokenRefusedTwice: "dStor refused a new token too",
    TokenRenewed: "a token was renewed before its end",
    TokenExpired: "a token ended on its way",
    TokenFetchFailed: "no token was to be had",
    KeyRefused: "dStor refused the key",
    KeyMended: "the key was mended",
    ToldToWait: "dStor said how long to wait",
    Quota: "the account was full",
    RefusedFile: "dStor refused a file",
    RefusedThenStored: "a file that was refused changed and was stored",
    ParkedForNonsense: "a file was given up after many answers without sense",
    Portal: "something else answered in dStor's place",
    ForeignHash: "dStor answered with a hash of other bytes",
    TravelledTogether: "files of a directory travelled together, and all were stored",
    SessionOfOne: "a file went in a session of its own",
    StayedBehind: "a file moved before its session was opened, and the others went",
    SavedInPack: "a file was saved again while its pack was made ready",
    SavedDuringSession: "a file was saved again during its session",
    RootGoneInPack: "the mirror's directory went while files travelled together",
    OpeningFailed: "no session was to be had",
    NoSessions: "a service had no sessions",
    OnlySessions: "a service took files in sessions only",
    NoWayAtAll: "a service took files by no way that was left",
    HourPassed: "what was known of the ways to dStor was an hour old",
    ChunkUnauthorized: "dStor refused the token in mid-session, when the files came",
    StatusUnauthorized: "dStor refused the token in mid-session, when it was asked how far it is",
    SessionRefusedTwice: "dStor refused a new token too, in mid-session",
    SessionHalved: "a session was refused with its files, and went on in halves",
    SessionToldToWait: "dStor said in a session how long to wait",
    SessionResetBefore: "a connection broke before the files of a session arrived",
    SessionUnheard: "the files of a session arrived and the answer was lost",
    SessionEndUnheard: "files had arrived, and how their session ended was not to be heard",
    SessionFailed: "a session failed after its files arrived",
    SessionStuck: "a session stood still and was given up",
    SessionSlow: "a session took long",
    SessionEndedLate: "a session that was given up stored its files after all",
    SessionForgotten: "dStor forgot a session",
    NameMissing: "a session told of some of its files only",
    ListingEmpty: "a session told of none of its files",
    SessionForeignHash: "a session gave a file the hash of other bytes",
    PutBackTogether: "files were put back when another one failed, and had not failed themselves",
    UnsureTogether: "a session ended so that nobody knows what dStor holds of it",
    GateClosed: "the gate was closed while others were under way",
    Rested: "another one went while a session was waited for",
    Probe: "one went ahead alone to see whether dStor is back",
    ProbeUnasked: "the one who went ahead had nothing to ask",
    LimitHalved: "fewer requests at a time were let through",
    CrashIdle: "a crash while nothing was under way",
    CrashClaimed: "a crash after a claim",
    CrashReading: "a crash while a file was read",
    CrashSent: "a crash while a request was under way",
    CrashUnheard: "a crash after dStor stored and before its answer came",
    CrashUnrecorded: "a crash after the answer and before it was recorded",
    CrashPreparing: "a crash while a pack was made ready",
    CrashOpening: "a crash while a session was opened",
    CrashFilling: "a crash while the files of a session were under way",
    CrashWaiting: "a crash while a session was waited for",
    CrashPackUnrecorded: "a crash after a session's end and before it was recorded",
    CrashInScan: "a crash during a scan",
    CrashTwice: "two crashes in a row with nothing recorded between",
    StoppedInOrder: "a stop in order",
    ChangedWhileDown: "something changed while no agent ran",
    FoundByScan: "a scan found what no event had told",
    GoneAndBack: "a file went and came back with the same bytes",
    TreeRemoved: "a directory was removed with files in it",
}

/// How often each situation was met.
#[derive(Clone)]
pub(crate) struct Reach(Vec<u64>);

impl Default for Reach {
    fn default() -> Self {
        Self(vec![0; Rare::ALL.len()])
    }
}

impl Reach {
    pub(crate) fn meet(&mut self, rare: Rare) {
        self.0[rare as usize] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, more)| *sum += more);
    }

    pub(crate) fn times(&self, rare: Rare) -> u64 {
        self.0[rare as usize]
    }

    /// Those that were never met, in words.
    pub(crate) fn never(&self) -> Vec<&'static str> {
        Rare::ALL.iter().filter(|(rare, _)| self.times(*rare) == 0).map(|(_, words)| *words).collect()
    }
}
