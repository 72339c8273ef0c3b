/*
 * The early verdict, at connect and sendmsg, where adapter, source address and source port may still be open.
 * Three values: an unknown field may match every rule that names it. Denied early is only what every completion
 * denies, settled early only what one and the same rule permits in each; all else is left to the packet hooks, which know.
 */


/*
 * The stack has room for this file's functions by a few bytes only, and compilers differ: LLVM 14 needs the loops over
 * a chunk's words unrolled, LLVM 19 needs them not to be.
 */
#if __clang_major__ < 15
#define KPF_WORDS_PRAGMA _Pragma("unroll")
#else
#define KPF_WORDS_PRAGMA _Pragma("nounroll")
#endif

/* What the vectors say of a flow known in part. */
struct kpf_early {
    u64 permits; /* not 0: a rule that permits may be the first match */
    u64 certain; /* not 0: some rule surely matches, and those that may come before it were looked at */
    u64 chunks;  /* the chunks looked at that hold rules which may match */
};

/* 1 if the word has a bit set, without a branch. */
static __always_inline u64 kpf_some(u64 word)
{
    word |= -word;
    asm volatile("" : "+r"(word)); /* else LLVM makes a branch of it */
    return word >> 63;
}

/* The rules that all classes may accept, within one chunk. A loop: its numbers stay in memory, and the stack suffices. */
static __always_inline void kpf_match_early(const struct kpf_case *this, u32 number,
                                            struct kpf_chunk *out)
{
    u32 field;

    __builtin_memset(out, 0xff, sizeof(*out));
#pragma nounroll
    for (field = 0; field < KPF_FIELDS; field++)
        if (!kpf_is_address(field))
            kpf_narrow(this, this->classes.of[field], number, out);
    kpf_narrow_to_named(this, number, out);
}

static __always_inline u64 kpf_word(const struct kpf_case *this, u32 class, u32 number, u32 word)
{
    return kpf_chunk(this, kpf_row(this, class), number)->words[word];
}

/*
 * Looks at the rules that may be the first match. No branches on what was found within a chunk: the verifier walks
 * every path. For end = 0, end ^ (end - 1) is all ones; else it is all bits up to and with the lowest of end.
 */
static __always_inline void kpf_look_early(struct kpf_case *this,
                                           struct kpf_early *early)
{
    u64 candidates = kpf_summarise(this), behind_guard = ~0ULL << (this->image->guard_end & 63), end, seen, some;
    struct kpf_chunk *possible = &this->room.chunk;
    u32 i, number, word;

    for (i = 0; i < KPF_EARLY_CHUNKS; i++) {
        if (!candidates)
            return;
        number = kpf_lowest_bit(candidates) & 63;
        candidates &= candidates - 1;
        kpf_match_early(this, number, possible);
        seen = 0;
        some = 0;
KPF_WORDS_PRAGMA
        for (word = 0; word < KPF_CHUNK_WORDS; word++) {
            /* behind the guard, its "modified" rule decides */
            possible->words[word] &= ~(kpf_modified(this) & (word ? ~0ULL : behind_guard | -kpf_some(number)));
            end = possible->words[word] & kpf_word(this, this->classes.sure[0], number, word) &
                  kpf_word(this, this->classes.sure[1], number, word) & kpf_word(this, this->classes.sure[2], number, word);
            possible->words[word] &= (end ^ (end - 1)) & ~seen;
            early->permits |= possible->words[word] & kpf_word(this, this->classes.permits, number, word);
            some |= possible->words[word];
            seen |= -kpf_some(end);
        }
        early->chunks |= kpf_some(some) << number;
        early->certain = seen;
        if (early->permits | seen)
            return;
    }
    early->permits = candidates; /* rules that were not looked at may permit */
}

/* Whether the rule at a position matches, whatever is still unknown of a flow that it may match. */
static __always_inline u32 kpf_is_sure(const struct kpf_case *this, u32 position)
{
    u64 number = position / (64 * KPF_CHUNK_WORDS) & 63, word = position / 64 % KPF_CHUNK_WORDS;

    asm volatile("" : "+r"(number), "+r"(word));
    number &= 63; /* said again, to what is used: older kernels do not see it otherwise */
    word &= KPF_CHUNK_WORDS - 1;
    return (kpf_word(this, this->classes.sure[0], number, word) & kpf_word(this, this->classes.sure[1], number, word) &
            kpf_word(this, this->classes.sure[2], number, word)) >> (position & 63) & 1;
}

/*
 * Denied, whatever is still unknown: `rule` is the first that may have decided. Settled: `rule` permits it, whatever is
 * still unknown. Open: for the packet hooks. `this` was opened for the flow.
 */
static __always_inline enum kpf_outcome kpf_classify_early(struct kpf_case *this, u64 active_word, struct kpf_rule *rule)
{
    struct kpf_early early = {};
    struct kpf_rule other = {};
    u32 position, number, sure = 0;

    if (KPF_ACTIVE_STOP_ALL(active_word)) {
        *rule = this->image->stop_all;
        return this->numbers.component == KPF_COMPONENT_NONE || this->numbers.component == KPF_COMPONENT_ASSIST;
    }
    kpf_look_early(this, &early);
    position = kpf_in_place_of(this, this->numbers.cells[0]);
    if (early.chunks) { /* the first rule that may match: by it a denial is credited */
        number = kpf_lowest_bit(early.chunks) & 63;
        kpf_match_early(this, number, &this->room.chunk);
        position = kpf_first_of(&this->room.chunk, number);
        sure = kpf_is_sure(this, position);
    }
    if (early.permits && !sure)
        return KPF_OUTCOME_OPEN;
    if (!early.certain) { /* nothing in the vectors surely matches: what stands behind them must be the same, too */
        if (kpf_read_rule(this->numbers.slot, kpf_in_place_of(this, this->numbers.cells[0]), rule))
            return KPF_OUTCOME_OPEN;
        if (rule->action == KPF_PERMIT)
            return early.chunks || this->numbers.cells[0] != this->numbers.cells[1] ? KPF_OUTCOME_OPEN
                                                                                    : KPF_OUTCOME_SETTLED;
        if (kpf_read_rule(this->numbers.slot, this->numbers.cells[1], &other) ||
            (other.action && !this->numbers.modified))
            return KPF_OUTCOME_OPEN;
    }
    if (kpf_read_rule(this->numbers.slot, position, rule))
        return KPF_OUTCOME_OPEN;
    return rule->action == KPF_DENY ? KPF_OUTCOME_DENIED : KPF_OUTCOME_SETTLED;
}
