/*
 * The classifier: which rule of the active image decides a flow. Per field one lookup gives a class, per class a
 * bit vector says which rules accept it; the first bit set in all of them is the rule (Lucent bit vectors; Miano
 * et al., ACM CCR 2019). A summary word per class has one bit per chunk of its vector, so that chunks without a
 * candidate cost nothing. kpf_ebpf/evaluate is this file's twin in Python: change both.
 */
struct kpf_classes {
    u32 index[KPF_FIELDS]; /* of the vector accepting what the field is, or all that it may turn out to be */
    u32 sure[3];           /* vectors that narrow a match to the certain ones: local address, local port, scope */
};

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

#define KPF_ICMP_CLASSES 768

/* Whether the flow runs over the loopback device; early hooks know it only of some addresses. */
static __always_inline u32 kpf_over_loopback(const struct kpf_flow *flow, const struct kpf_address *remote, u32 home)
{
    if (flow->known & KPF_KNOWS_ADAPTER)
        return flow->ifindex == 1 ? KPF_YES : KPF_NO;
    if (remote->flags & KPF_ADDRESS_LOOPBACK)
        return KPF_YES;
    if (!home)
        return KPF_UNKNOWN;
    return remote->flags & KPF_ADDRESS_OWN ? KPF_YES : KPF_NO;
}

static __always_inline u32 kpf_zone(const struct kpf_address *address, u32 known, u32 slot, u32 loopback)
{
    if (loopback == KPF_YES)
        return KPF_YES;
    if (address->trusted == ~0ULL)
        return KPF_YES;
    if (loopback == KPF_UNKNOWN)
        return KPF_UNKNOWN;
    if (!address->trusted)
        return KPF_NO;
    if (!known)
        return KPF_UNKNOWN;
    return address->trusted >> (slot & (KPF_ADAPTER_SLOTS - 1)) & 1;
}

/* A zone of KPF_UNKNOWN accepts both cells. */
struct kpf_scope {
    u8 loopback;
    u8 remote_zone;
    u8 local_zone;
    u8 home;
};

static __always_inline u32 kpf_scope_index(const struct kpf_flow *flow, const struct kpf_scope *scope)
{
    return (((flow->direction * 2 + scope->home) * 3 + scope->loopback) * 3 + scope->remote_zone) * 3 +
           scope->local_zone;
}

static __always_inline int kpf_find_scope(u32 slot, const struct kpf_flow *flow, const struct kpf_image *image,
                                          const struct kpf_address *local, const struct kpf_address *remote,
                                          struct kpf_scope *scope)
{
    u32 known = flow->known & KPF_KNOWS_ADAPTER, ifindex = flow->ifindex, adapter_slot = 0, group;
    struct kpf_adapter *adapter = NULL;
    void *adapters_of = adapters.lookup((int *)&slot);

    if (!adapters_of)
        return -1;
    scope->home = flow->netns_cookie == image->home;
    if (scope->home && known) {
        adapter = bpf_map_lookup_elem(adapters_of, &ifindex);
        if (adapter)
            adapter_slot = adapter->slot;
    }
    if (!scope->home)
        known = KPF_KNOWS_ADAPTER; /* elsewhere adapter-bound items never match: slot 0 whatever the adapter */
    scope->loopback = kpf_over_loopback(flow, remote, scope->home);
    scope->local_zone = flow->known & KPF_KNOWS_LOCAL_ADDRESS
                            ? kpf_zone(local, known, adapter_slot, scope->loopback)
                            : KPF_UNKNOWN;
    scope->remote_zone = kpf_zone(remote, known, adapter_slot, scope->loopback);
    group = remote->flags & (scope->home ? KPF_ADDRESS_GROUP | KPF_ADDRESS_DIRECTED : KPF_ADDRESS_GROUP);
    if (flow->direction == KPF_OUT && group && scope->loopback != KPF_YES) {
        if (adapter)
            scope->remote_zone = adapter->own_zone >> !kpf_is_ipv4(flow->remote) & 1;
        else if (!known)
            scope->remote_zone = KPF_UNKNOWN; /* the source may be another adapter's address */
        else
            scope->remote_zone = scope->local_zone;
    }
    return 0;
}

/*
 * Everything the classifier knows of one flow after its lookups. Numbers rather than pointers where both would do:
 * the verifier walks the loops once per kind of pointer that is alive in them.
 */
struct kpf_numbers {
    u32 chunks;
    u32 slot;
    u32 class_;     /* of the application */
    u32 cells[2];   /* positions of its cells in the flow's direction, for zone: Internet, trusted */
    u32 instead;    /* the position of "modified", which decides behind the guard... */
    u64 modified;   /* ... if this is all ones, and not 0 */
    u32 component;  /* what the application is, unless modified */
    struct kpf_scope scope;
    struct kpf_classes classes;
};
struct kpf_case {
    struct kpf_image *image;
    void *summaries;
    void *vectors;
    struct kpf_numbers numbers;
};

static __always_inline void kpf_set_application(struct kpf_case *this, const struct kpf_application *application,
                                                u32 direction)
{
    this->numbers.class_ = application->class_;
    this->numbers.component = application->component;
    this->numbers.cells[0] = direction == KPF_OUT ? application->cells[1] : application->cells[0];
    this->numbers.cells[1] = direction == KPF_OUT ? application->cells[3] : application->cells[2];
}

static __always_inline u64 kpf_is_accepted(const struct kpf_application_file *file, const struct kpf_file *key)
{
    u64 found = 0;
    u32 i;

#pragma unroll
    for (i = 0; i < KPF_CTIMES; i++)
        found |= file->accepted[i].seconds == key->ctime_seconds &&
                 file->accepted[i].nanoseconds == key->ctime_nanoseconds;
    return found;
}

/* The application of a flow: by registered component, else by file. One whose ctime moved is "modified". */
static __always_inline int kpf_find_application(struct kpf_case *this, const struct kpf_flow *flow)
{
    struct kpf_application_key key = {};
    struct kpf_application_file *file = NULL;
    void *applications_of = applications.lookup((int *)&this->numbers.slot);

    if (!applications_of)
        return -1;
    this->numbers.instead = 0;
    this->numbers.modified = 0;
    kpf_set_application(this, &this->image->components[flow->component & (KPF_COMPONENTS - 1)], flow->direction);
    if (flow->component)
        return 0;
    key.inode = flow->application.inode;
    key.device = flow->application.device;
    key.generation = flow->application.generation;
    file = bpf_map_lookup_elem(applications_of, &key);
    if (!file)
        return 0;
    if (kpf_is_accepted(file, &flow->application))
        kpf_set_application(this, &file->application, flow->direction);
    else {
        this->numbers.instead = file->application.modified;
        this->numbers.modified = ~0ULL;
    }
    return 0;
}

static __always_inline void kpf_set_class(struct kpf_case *this, u32 field, u32 class)
{
    this->numbers.classes.index[field] = this->image->base[field] + class;
}

static __always_inline int kpf_find_ports(struct kpf_case *this, const struct kpf_flow *flow)
{
    void *ports_of = ports.lookup((int *)&this->numbers.slot);
    u32 local_port = flow->local_port, remote_port = flow->remote_port, local_class = 0, remote_class = 0;
    struct kpf_port *found;

    if (!ports_of)
        return -1;
    this->numbers.classes.sure[1] = this->image->everything;
    if (kpf_is_icmp(flow->protocol)) {
        this->numbers.classes.index[KPF_FIELD_LOCAL_PORT] =
            this->image->icmp + (flow->icmp < KPF_ICMP_CLASSES ? flow->icmp : KPF_ICMP_CLASSES - 1);
        this->numbers.classes.index[KPF_FIELD_REMOTE_PORT] = this->image->everything;
        return 0;
    }
    if (flow->known & KPF_HAS_PORTS) {
        found = bpf_map_lookup_elem(ports_of, &local_port);
        if (!found)
            return -1;
        local_class = found->local_class;
        found = bpf_map_lookup_elem(ports_of, &remote_port);
        if (!found)
            return -1;
        remote_class = found->remote_class;
    }
    kpf_set_class(this, KPF_FIELD_LOCAL_PORT, local_class);
    kpf_set_class(this, KPF_FIELD_REMOTE_PORT, remote_class);
    if (flow->known & KPF_HAS_PORTS && !(flow->known & KPF_KNOWS_LOCAL_PORT)) {
        this->numbers.classes.index[KPF_FIELD_LOCAL_PORT] = this->image->everything;
        this->numbers.classes.sure[1] = this->image->base[KPF_FIELD_LOCAL_PORT];
    }
    return 0;
}

static __always_inline int kpf_find_classes(struct kpf_case *this, const struct kpf_flow *flow)
{
    void *addresses_of = addresses.lookup((int *)&this->numbers.slot);
    void *users_of = users.lookup((int *)&this->numbers.slot);
    void *cgroups_of = cgroups.lookup((int *)&this->numbers.slot);
    struct kpf_prefix prefix = {.bits = 128};
    struct kpf_address *local, *remote;
    u32 uid = flow->uid, *found;
    u64 cgroup = flow->cgroup, *mark;

    if (!addresses_of || !users_of || !cgroups_of)
        return -1;
    __builtin_memcpy(prefix.address, flow->local, 16);
    local = bpf_map_lookup_elem(addresses_of, &prefix);
    __builtin_memcpy(prefix.address, flow->remote, 16);
    remote = bpf_map_lookup_elem(addresses_of, &prefix);
    if (!local || !remote) /* every image has the prefix of all addresses */
        return -1;
    if (kpf_find_scope(this->numbers.slot, flow, this->image, local, remote, &this->numbers.scope))
        return -1;
    kpf_set_class(this, KPF_FIELD_REMOTE_ADDRESS, remote->remote_class);
    if (flow->known & KPF_KNOWS_LOCAL_ADDRESS) {
        kpf_set_class(this, KPF_FIELD_LOCAL_ADDRESS, local->local_class);
        this->numbers.classes.sure[0] = this->image->everything;
    } else {
        this->numbers.classes.index[KPF_FIELD_LOCAL_ADDRESS] = this->image->everything;
        this->numbers.classes.sure[0] = this->image->base[KPF_FIELD_LOCAL_ADDRESS];
    }
    kpf_set_class(this, KPF_FIELD_APPLICATION, this->numbers.class_);
    found = bpf_map_lookup_elem(users_of, &uid);
    kpf_set_class(this, KPF_FIELD_USER, found ? *found : 0);
    mark = cgroup_marks.lookup(&cgroup);
    cgroup = mark ? *mark : 0;
    found = bpf_map_lookup_elem(cgroups_of, &cgroup);
    kpf_set_class(this, KPF_FIELD_CGROUP, found ? *found : 0);
    kpf_set_class(this, KPF_FIELD_PROTOCOL, flow->protocol);
    if (this->numbers.scope.remote_zone == KPF_YES)
        this->numbers.cells[0] = this->numbers.cells[1];
    if (this->numbers.scope.remote_zone == KPF_NO)
        this->numbers.cells[1] = this->numbers.cells[0]; /* the two differ now only where the zone is unknown */
    kpf_set_class(this, KPF_FIELD_SCOPE, kpf_scope_index(flow, &this->numbers.scope) * 2);
    this->numbers.classes.sure[2] = this->numbers.classes.index[KPF_FIELD_SCOPE] + 1;
    return kpf_find_ports(this, flow);
}

/* The chunks that may hold a match: the AND of the summaries of all fields. */
static __always_inline u64 kpf_summarise(const struct kpf_case *this)
{
    u64 all = ~0ULL, *summary;
    u32 field, key;

#pragma nounroll
    for (field = 0; field < KPF_FIELDS; field++) {
        key = this->numbers.classes.index[field];
        summary = bpf_map_lookup_elem(this->summaries, &key);
        if (!summary)
            return 0;
        all &= *summary;
    }
    return all;
}

/* Narrows `out` to the rules that `count` classes accept, within one chunk. */
static __always_inline int kpf_match_chunk(const struct kpf_case *this, const u32 *index, u32 count, u32 number,
                                           struct kpf_chunk *out)
{
    struct kpf_chunk *vector;
    u32 i, key, word;

#pragma nounroll
    for (i = 0; i < count; i++) {
        key = index[i] * this->numbers.chunks + number;
        vector = bpf_map_lookup_elem(this->vectors, &key);
        if (!vector)
            return -1;
#pragma unroll
        for (word = 0; word < KPF_CHUNK_WORDS; word++)
            out->words[word] &= vector->words[word];
    }
    return 0;
}

/* The first position that accepts all fields; KPF_NO_POSITION: none of the rules in the vectors. */
static __always_inline u32 kpf_first_match(const struct kpf_case *this)
{
    u64 candidates = kpf_summarise(this);
    struct kpf_chunk chunk;
    u32 i, number, word;

    for (i = 0; i < KPF_CHUNKS; i++) {
        if (!candidates)
            break;
        number = kpf_lowest_bit(candidates);
        candidates &= candidates - 1;
        __builtin_memset(&chunk, 0xff, sizeof(chunk));
        if (kpf_match_chunk(this, this->numbers.classes.index, KPF_FIELDS, number, &chunk))
            break;
#pragma unroll
        for (word = 0; word < KPF_CHUNK_WORDS; word++)
            if (chunk.words[word])
                return (number * KPF_CHUNK_WORDS + word) * 64 + kpf_lowest_bit(chunk.words[word]);
    }
    return KPF_NO_POSITION;
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
    struct kpf_rule *found;

    if (!rules_of)
        return -1;
    found = bpf_map_lookup_elem(rules_of, &position);
    if (!found)
        return -1;
    *rule = *found;
    return 0;
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
    return (behind & ~(u32)this->numbers.modified) | (this->numbers.instead & (u32)this->numbers.modified);
}

/* The verdict when an image lacks what it must have: KPF_DEFAULT_BROKEN_IMAGE, deny. */
static __always_inline void kpf_broken_image(struct kpf_rule *rule)
{
    kpf_count_default(KPF_DEFAULT_BROKEN_IMAGE);
    __builtin_memset(rule, 0, sizeof(*rule));
    rule->step = KPF_STEP_DEFAULT;
}

/*
 * Makes the verifier forget what it knows of a value's bytes. It walks the search below once per set of constants
 * that a later branch may depend on; behind this there is one set, whatever the branches before it were.
 */
static __always_inline void kpf_forget(void *bytes, u32 size)
{
    bpf_probe_read_kernel(bytes, size, bytes);
}

static __always_inline int kpf_open_case(struct kpf_case *this, const struct kpf_flow *flow, u64 active_word)
{
    u32 zero = 0;
    void *images_of;

    this->numbers.slot = KPF_ACTIVE_SLOT(active_word);
    images_of = images.lookup((int *)&this->numbers.slot);
    if (!images_of)
        return -1;
    this->image = bpf_map_lookup_elem(images_of, &zero);
    this->summaries = summaries.lookup((int *)&this->numbers.slot);
    this->vectors = vectors.lookup((int *)&this->numbers.slot);
    if (!this->image || !this->summaries || !this->vectors)
        return -1;
    this->numbers.chunks = this->image->chunks;
    if (kpf_find_application(this, flow))
        return -1;
    if (kpf_find_classes(this, flow))
        return -1;
    kpf_forget(&this->numbers, sizeof(this->numbers));
    return 0;
}

/*
 * The receiver's half of a loopback flow that an internal rule permitted at its sender: to the Engine (popup-log)
 * and to the GUI (engine-to-gui, or anything the Engine itself was permitted). Mirrored one way only.
 */
static __always_inline int kpf_is_mirrored(const struct kpf_case *this, const struct kpf_mirror *mirror)
{
    if (mirror->rule.action != KPF_PERMIT || mirror->rule.counter > 63 ||
        !(this->image->internal >> (mirror->rule.counter & 63) & 1))
        return 0;
    if (this->numbers.component == KPF_COMPONENT_ENGINE)
        return mirror->rule.flags & KPF_RULE_MIRROR_ENGINE;
    return this->numbers.component == KPF_COMPONENT_GUI &&
           (mirror->rule.flags & KPF_RULE_MIRROR_GUI || mirror->component == KPF_COMPONENT_ENGINE);
}

/*
 * Classifies a flow of which everything is known. `mirror` is its sender's half, if one was permitted (or NULL).
 * Returns the component that the flow's application is.
 */
static __always_inline u32 kpf_classify(const struct kpf_flow *flow, u64 active_word, const struct kpf_mirror *mirror,
                                        struct kpf_rule *rule)
{
    struct kpf_case this = {};

    if (kpf_open_case(&this, flow, active_word)) {
        kpf_broken_image(rule);
        return KPF_COMPONENT_NONE;
    }
    if (KPF_ACTIVE_STOP_ALL(active_word) && !kpf_stop_all_leaves(&this, flow)) {
        *rule = this.image->stop_all;
        return this.numbers.component;
    }
    if (mirror && kpf_is_mirrored(&this, mirror)) {
        *rule = mirror->rule;
        return this.numbers.component;
    }
    if (kpf_read_rule(this.numbers.slot, kpf_decide(&this, kpf_first_match(&this)), rule))
        kpf_broken_image(rule);
    return this.numbers.component;
}
