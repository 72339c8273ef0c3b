/*
 * The early verdict, at connect and sendmsg, where adapter, source address and source port may still be open.
 * Three values: an unknown field may match every rule that names it. Denied early is only what every completion
 * denies; all else is left to the packet hooks, which know.
 */

/* The vector `index` in chunk `number`. */
static __always_inline struct kpf_chunk *kpf_find_chunk(const struct kpf_case *this, u32 index, u32 number)
{
    u32 key = index * this->numbers.chunks + number;

    return bpf_map_lookup_elem(this->vectors, &key);
}

/* What the vectors say of a flow known in part. */
struct kpf_early {
    u64 permits; /* not 0: a rule that permits may be the first match */
    u64 certain; /* not 0: some rule surely matches, and those that may come before it were looked at */
    u64 chunks;  /* the chunks looked at that hold rules which may match */
};

/* 1 if the word has a bit set, without a branch. */
static __always_inline u64 kpf_some(u64 word)
{
    return (word | -word) >> 63;
}

/*
 * Looks at the rules that may be the first match. No branches on what was found within a chunk: the verifier walks
 * every path. For end = 0, end ^ (end - 1) is all ones; else it is all bits up to and with the lowest of end.
 */
static __always_inline void kpf_look_early(const struct kpf_case *this, struct kpf_early *early)
{
    u64 candidates = kpf_summarise(this), behind_guard = ~0ULL << (this->image->guard_end & 63), end, seen, some;
    struct kpf_chunk possible, *permits, *address, *port, *scope;
    u32 i, number, word;

    for (i = 0; i < KPF_CHUNKS; i++) {
        if (!candidates)
            break;
        number = kpf_lowest_bit(candidates);
        candidates &= candidates - 1;
        __builtin_memset(&possible, 0xff, sizeof(possible));
        if (kpf_match_chunk(this, this->numbers.classes.index, KPF_FIELDS, number, &possible))
            break;
        permits = kpf_find_chunk(this, this->image->permits, number);
        address = kpf_find_chunk(this, this->numbers.classes.sure[0], number);
        port = kpf_find_chunk(this, this->numbers.classes.sure[1], number);
        scope = kpf_find_chunk(this, this->numbers.classes.sure[2], number);
        if (!permits || !address || !port || !scope)
            break;
        seen = 0;
        some = 0;
#pragma unroll
        for (word = 0; word < KPF_CHUNK_WORDS; word++) {
            /* behind the guard, its "modified" rule decides */
            possible.words[word] &= ~(this->numbers.modified & (word ? ~0ULL : behind_guard | -kpf_some(number)));
            end = possible.words[word] & address->words[word] & port->words[word] & scope->words[word];
            possible.words[word] &= (end ^ (end - 1)) & ~seen;
            early->permits |= possible.words[word] & permits->words[word];
            some |= possible.words[word];
            seen |= -kpf_some(end);
        }
        early->chunks |= kpf_some(some) << number;
        early->certain = seen;
        if (early->permits | seen)
            break;
    }
}

/* The rules of one word that may match. Word by word: a whole chunk more is more than the stack has. */
static __always_inline u64 kpf_match_word(const struct kpf_case *this, u32 number, u32 word)
{
    u64 possible = ~0ULL;
    struct kpf_chunk *vector;
    u32 field;

#pragma nounroll
    for (field = 0; field < KPF_FIELDS; field++) {
        vector = kpf_find_chunk(this, this->numbers.classes.index[field], number);
        if (!vector)
            return 0;
        possible &= vector->words[word];
    }
    return possible;
}

/* The first rule that may match, by which the denial is credited. */
static __always_inline u32 kpf_first_possible(const struct kpf_case *this, u32 number)
{
    u64 possible;
    u32 word;

#pragma unroll
    for (word = 0; word < KPF_CHUNK_WORDS; word++) {
        possible = kpf_match_word(this, number, word);
        if (possible)
            return (number * KPF_CHUNK_WORDS + word) * 64 + kpf_lowest_bit(possible);
    }
    return KPF_NO_POSITION;
}

/* Whether the rule at a position permits; one that is missing is for the packet hooks, too. */
static __always_inline u32 kpf_may_permit(u32 slot, u32 position)
{
    void *rules_of = rules.lookup((int *)&slot);
    struct kpf_rule *found = rules_of ? bpf_map_lookup_elem(rules_of, &position) : NULL;

    return found ? found->action : KPF_PERMIT;
}

/* 1: denied, whatever is still unknown; `rule` is the first that may have decided. 0: for the packet hooks. */
static __always_inline int kpf_classify_early(const struct kpf_flow *flow, u64 active_word, struct kpf_rule *rule)
{
    struct kpf_case this = {};
    struct kpf_early early = {};
    u32 position;

    if (kpf_open_case(&this, flow, active_word))
        return 0; /* KPF_DEFAULT_BROKEN_IMAGE is the packet hooks' to return */
    if (KPF_ACTIVE_STOP_ALL(active_word)) {
        *rule = this.image->stop_all;
        return this.numbers.component == KPF_COMPONENT_NONE || this.numbers.component == KPF_COMPONENT_ASSIST;
    }
    kpf_look_early(&this, &early);
    if (early.permits)
        return 0;
    position = (this.numbers.cells[0] & ~(u32)this.numbers.modified) | (this.numbers.instead & (u32)this.numbers.modified);
    if (!early.certain) { /* nothing in the vectors surely matches: what stands behind them must deny, too */
        if (kpf_read_rule(this.numbers.slot, position, rule) || rule->action == KPF_PERMIT)
            return 0;
        if (kpf_may_permit(this.numbers.slot, this.numbers.cells[1]) & ~(u32)this.numbers.modified)
            return 0;
    }
    if (early.chunks)
        position = kpf_first_possible(&this, kpf_lowest_bit(early.chunks));
    return !kpf_read_rule(this.numbers.slot, position, rule) && rule->action == KPF_DENY;
}
