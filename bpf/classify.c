/*
 * The classifier: which rule of the active image decides a flow. Per field one lookup gives a class: the row, a bit
 * vector, of the rules that accept it; the first bit set in all of them is the rule (Lucent bit vectors; Miano et al.,
 * ACM CCR 2019). A row's summary has one bit per chunk, so that chunks without a candidate cost nothing.
 * kpf_ebpf/evaluate is this file's twin in Python: change both.
 */

/* The number of the lowest bit set in a word that is not 0. LLVM 14 crashes on __builtin_ctzll for BPF. */
static __always_inline u32 kpf_lowest_bit(u64 word)
{
    u64 below = (word & -word) - 1; /* as many ones as there are zeros below the bit: count them */

    asm volatile("" : "+r"(below)); /* else LLVM 19 makes a table of it, which BCC does not load */
    below -= below >> 1 & 0x5555555555555555ULL;
    below = (below & 0x3333333333333333ULL) + (below >> 2 & 0x3333333333333333ULL);
    below = (below + (below >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
    return below * 0x0101010101010101ULL >> 56;
}

static __always_inline struct kpf_row *kpf_row(const struct kpf_case *this, u32 class)
{
    asm volatile("" : "+r"(class)); /* here and not before a loop: the stack has no room for so many pointers */
    return &this->rows->row[class & (KPF_ROWS - 1)];
}

static __always_inline struct kpf_chunk *kpf_chunk(const struct kpf_case *this, const struct kpf_row *row, u32 number)
{
    return &this->pool->chunk[row->chunks[number]];
}

/* Narrows `out` to the rules that a class accepts, within one chunk. */
static __always_inline void kpf_narrow(const struct kpf_case *this, u32 class, u32 number, struct kpf_chunk *out)
{
    struct kpf_chunk *chunk = kpf_chunk(this, kpf_row(this, class), number);
    u32 word;

#pragma unroll
    for (word = 0; word < KPF_CHUNK_WORDS; word++)
        out->words[word] &= chunk->words[word];
}

/* The same, to those that either of two classes accepts. */
static __always_inline void kpf_narrow_to_either(const struct kpf_case *this, u32 class, u32 other, u32 number,
                                                 struct kpf_chunk *out)
{
    struct kpf_chunk *one = kpf_chunk(this, kpf_row(this, class), number);
    struct kpf_chunk *two = kpf_chunk(this, kpf_row(this, other), number);
    u32 word;

#pragma unroll
    for (word = 0; word < KPF_CHUNK_WORDS; word++)
        out->words[word] &= one->words[word] | two->words[word];
}

/* The fields that have two rows: the address's own, and that of the hosts it is the address of. */
static __always_inline int kpf_is_address(u32 field)
{
    return field == KPF_FIELD_LOCAL_ADDRESS || field == KPF_FIELD_REMOTE_ADDRESS;
}

static __always_inline u64 kpf_summarise(const struct kpf_case *this)
{
    u64 all = kpf_row(this, this->classes.of[KPF_FIELD_LOCAL_ADDRESS])->summary |
              kpf_row(this, this->classes.named_local)->summary;
    u32 field;

    all &= kpf_row(this, this->classes.of[KPF_FIELD_REMOTE_ADDRESS])->summary |
           kpf_row(this, this->classes.named_remote)->summary;
#pragma unroll
    for (field = 0; field < KPF_FIELDS; field++)
        if (!kpf_is_address(field))
            all &= kpf_row(this, this->classes.of[field])->summary;
    return all;
}

/* The position of the lowest bit set in a chunk that has one. */
static __always_inline u32 kpf_first_of(const struct kpf_chunk *chunk, u32 number)
{
    u64 bits = chunk->words[KPF_CHUNK_WORDS - 1];
    u32 word = KPF_CHUNK_WORDS - 1, i;

#pragma unroll
    for (i = KPF_CHUNK_WORDS - 1; i > 0; i--)
        if (chunk->words[i - 1]) {
            bits = chunk->words[i - 1];
            word = i - 1;
        }
    return (number * KPF_CHUNK_WORDS + word) * 64 + kpf_lowest_bit(bits);
}

/* Narrows `out` to the rules that accept both addresses. */
static __always_inline void kpf_narrow_to_named(const struct kpf_case *this, u32 number,
                                                struct kpf_chunk *out)
{
    kpf_narrow_to_either(this, this->classes.of[KPF_FIELD_LOCAL_ADDRESS], this->classes.named_local, number, out);
    kpf_narrow_to_either(this, this->classes.of[KPF_FIELD_REMOTE_ADDRESS], this->classes.named_remote, number, out);
}

/*
 * The first position that accepts all fields; KPF_NO_POSITION: none of the rules in the vectors. Looks at `most` chunks
 * that are not `done`; KPF_UNFINISHED: more may hold it, and `done` says which not.
 */
static __always_inline u32 kpf_first_match(const struct kpf_case *this, u32 most,
                                           u64 *done)
{
    u64 candidates = kpf_summarise(this) & ~*done;
    struct kpf_chunk chunk;
    u32 i, number, field;

    for (i = 0; i < most; i++) {
        if (!candidates)
            return KPF_NO_POSITION;
        number = kpf_lowest_bit(candidates) & 63;
        candidates &= candidates - 1;
        __builtin_memset(&chunk, 0xff, sizeof(chunk));
#pragma unroll
        for (field = 0; field < KPF_FIELDS; field++)
            if (!kpf_is_address(field))
                kpf_narrow(this, this->classes.of[field], number, &chunk);
        kpf_narrow_to_named(this, number, &chunk);
        if (chunk.words[0] | chunk.words[1] | chunk.words[2] | chunk.words[3])
            return kpf_first_of(&chunk, number);
    }
    *done = ~candidates;
    return candidates ? KPF_UNFINISHED : KPF_NO_POSITION;
}

/* The loopback GUI-Engine connection on the administration port, either half, and the canary: left by stop-all. */
static __always_inline int kpf_stop_all_leaves(const struct kpf_case *this, const struct kpf_flow *flow)
{
    if (this->numbers.scope.loopback != KPF_YES || (flow->protocol != KPF_TCP && flow->protocol != KPF_UDP))
        return 0;
    if (this->numbers.component == KPF_COMPONENT_GUI)
        return flow->direction == KPF_OUT && flow->remote_port == this->image->administration_port;
    if (this->numbers.component == KPF_COMPONENT_ENGINE)
        return flow->direction == KPF_IN && flow->local_port == this->image->administration_port;
    return this->numbers.component == KPF_COMPONENT_CANARY;
}

static __always_inline int kpf_read_rule(u32 slot, u32 position, struct kpf_rule *rule)
{
    void *rules_of = rules.lookup((int *)&slot);
    struct kpf_rules *all;
    u64 at = position;
    u32 zero = 0;

    if (!rules_of)
        return -1;
    all = bpf_map_lookup_elem(rules_of, &zero);
    if (!all || at >= KPF_RULES)
        return -1;
    asm volatile("" : "+r"(at)); /* else the check is of a copy, or left out, and the verifier does not see it */
    *rule = all->rule[at & (KPF_RULES - 1)];
    return 0;
}

/* All ones if the flow's application is modified, else 0. */
static __always_inline u64 kpf_modified(const struct kpf_case *this)
{
    return -(u64)(this->numbers.modified & 1);
}

/* The position that decides where a rule behind the guard would, or a cell. */
static __always_inline u32 kpf_in_place_of(const struct kpf_case *this, u32 position)
{
    u32 modified = kpf_modified(this);

    return (position & ~modified) | (this->numbers.instead & modified);
}

/*
 * The position that decides, given the first match in the vectors: steps 5, 8 and 9 are the application's own.
 * Masks rather than branches on what was found before the search: a branch there would have the verifier walk the
 * search once per outcome.
 */
static __always_inline u32 kpf_decide(const struct kpf_case *this, u32 first)
{
    u32 behind;

    if (first < this->image->guard_end)
        return first;
    behind = first == KPF_NO_POSITION ? this->numbers.cells[0] : first;
    return kpf_in_place_of(this, behind);
}

/* The verdict when an image lacks what it must have: KPF_DEFAULT_BROKEN_IMAGE, deny. */
static __always_inline void kpf_broken_image(struct kpf_rule *rule)
{
    kpf_count_default(KPF_DEFAULT_BROKEN_IMAGE);
    __builtin_memset(rule, 0, sizeof(*rule));
    rule->step = KPF_STEP_DEFAULT;
}

static __always_inline int kpf_open_case(struct kpf_case *this, const struct kpf_flow *flow, u64 active_word)
{
    u32 zero = 0;
    void *images_of, *rows_of, *pool_of;

    this->numbers.slot = KPF_ACTIVE_SLOT(active_word);
    images_of = images.lookup((int *)&this->numbers.slot);
    rows_of = rows.lookup((int *)&this->numbers.slot);
    pool_of = pool.lookup((int *)&this->numbers.slot);
    if (!images_of || !rows_of || !pool_of)
        return -1;
    this->image = bpf_map_lookup_elem(images_of, &zero);
    this->rows = bpf_map_lookup_elem(rows_of, &zero);
    this->pool = bpf_map_lookup_elem(pool_of, &zero);
    if (!this->image || !this->rows || !this->pool)
        return -1;
    if (kpf_find_owner(this, flow, active_word))
        return -1;
    return kpf_find_classes(this, flow, active_word);
}

/*
 * Classifies a flow of which everything is known. Returns the component that the flow's application is; KPF_UNFINISHED as
 * kpf_first_match does, and `rule` is none then. `this` is room to work in.
 */
static __always_inline u32 kpf_classify(struct kpf_case *this, const struct kpf_flow *flow, u64 active_word,
                                        struct kpf_rule *rule, u32 most, u64 *done)
{
    u32 position;

    __builtin_memset(this, 0, sizeof(*this));
    if (kpf_open_case(this, flow, active_word)) {
        kpf_broken_image(rule);
        return KPF_COMPONENT_NONE;
    }
    /* searched for first of all, though stop-all outranks it: one walk for the verifier */
    position = kpf_first_match(this, most, done);
    if (position == KPF_UNFINISHED)
        return KPF_UNFINISHED;
    position = kpf_decide(this, position);
    if (KPF_ACTIVE_STOP_ALL(active_word) && !kpf_stop_all_leaves(this, flow))
        *rule = this->image->stop_all;
    else if (kpf_read_rule(this->numbers.slot, position, rule))
        kpf_broken_image(rule);
    return this->numbers.component;
}

/* The chunks that an earlier run for this very packet, under the same active word, has looked at. */
static __always_inline u64 kpf_resume_search(struct __sk_buff *skb, u64 active_word)
{
    u64 done = 0, packet = 0;
    u32 zero = 0;
    struct kpf_search *search = searches.lookup(&zero);

    if (search && search->done) {
        bpf_probe_read_kernel(&packet, sizeof(packet), &skb); /* as a number */
        done = search->packet == packet && search->active == active_word ? search->done : 0;
        search->done = 0;
    }
    return done ^ kpf_nought(&skb->len);
}

/* Before the tail call. Should that fail, the image is taken for broken: KPF_DEFAULT_BROKEN_IMAGE, deny. */
static __always_inline void kpf_leave_search(struct __sk_buff *skb, u64 active_word, u64 done)
{
    u32 zero = 0;
    struct kpf_search *search = searches.lookup(&zero);

    if (search) {
        bpf_probe_read_kernel(&search->packet, sizeof(search->packet), &skb);
        search->active = active_word;
        search->done = done;
    }
}
