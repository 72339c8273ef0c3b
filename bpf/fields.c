/*
 * The fields of a flow: per field one lookup gives its class, which is the row of the rules that accept it.
 */
struct kpf_classes {       /* half words: the stack is nearly full, and rows are numbered below KPF_ROWS */
    u16 of[KPF_FIELDS];    /* the rules that accept what the field is, or all that it may turn out to be */
    u16 sure[3];           /* rows that narrow a match to the certain ones: local address, local port, scope */
    u16 permits;           /* the row of the rules that permit */
    u16 named_local;       /* rows of the rules that name a host with this address: beside the address's own */
    u16 named_remote;
};

/* Whether the flow runs over the loopback device; early hooks know it only of some addresses. */
static __always_inline u32 kpf_over_loopback(const struct kpf_flow *flow, u32 remote_flags, u32 home)
{
    if (flow->known & KPF_KNOWS_ADAPTER)
        return flow->ifindex == 1 ? KPF_YES : KPF_NO;
    if (remote_flags & KPF_ADDRESS_LOOPBACK)
        return KPF_YES;
    if (!home)
        return KPF_UNKNOWN;
    return remote_flags & KPF_ADDRESS_OWN ? KPF_YES : KPF_NO;
}

static __always_inline u32 kpf_zone(const struct kpf_address *address, u32 known, u32 place, u32 loopback)
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
    return address->trusted >> (place & (KPF_ADAPTER_SLOTS - 1)) & 1;
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

/* Not 0 if it depends on the adapter what an address is: trusted on some (neither 0 nor all ones), or sent to many. */
static __always_inline u64 kpf_asks_adapter(const struct kpf_address *address, u32 flags)
{
    return (address->trusted + 1) >> 1 | (flags & (KPF_ADDRESS_GROUP | KPF_ADDRESS_DIRECTED));
}

/* `..._flags`: all that an address is, by its prefixes and by itself. */
static __always_inline void kpf_find_scope(u32 slot, const struct kpf_flow *flow, const struct kpf_image *image,
                                           const struct kpf_address *local, u32 local_flags,
                                           const struct kpf_address *remote, u32 remote_flags, struct kpf_scope *scope)
{
    struct kpf_adapter_key key = {.slot = slot, .ifindex = flow->ifindex};
    u32 known = flow->known & KPF_KNOWS_ADAPTER, place = 0, group;
    struct kpf_adapter *adapter = NULL;
    u64 asks = kpf_asks_adapter(local, local_flags) | kpf_asks_adapter(remote, remote_flags);

    scope->home = flow->netns_cookie == image->home;
    if (scope->home && known && asks) {
        adapter = adapters.lookup(&key);
        if (adapter)
            place = adapter->place;
    }
    if (!scope->home)
        known = KPF_KNOWS_ADAPTER; /* elsewhere adapter-bound items never match: place 0 whatever the adapter */
    /* at once: else the verifier walks on for each of them with each of the others */
    scope->home = kpf_opaque(scope->home ^ kpf_nought(&flow->uid));
    place = kpf_opaque(place ^ kpf_nought(&flow->uid));
    known = kpf_opaque(known ^ kpf_nought(&flow->uid));
    scope->loopback = kpf_opaque(kpf_over_loopback(flow, remote_flags, scope->home) ^ kpf_nought(&flow->uid));
    scope->local_zone = flow->known & KPF_KNOWS_LOCAL_ADDRESS
                            ? kpf_zone(local, known, place, scope->loopback)
                            : KPF_UNKNOWN;
    scope->local_zone = kpf_opaque(scope->local_zone ^ kpf_nought(&flow->uid));
    scope->remote_zone = kpf_opaque(kpf_zone(remote, known, place, scope->loopback) ^ kpf_nought(&flow->uid));
    group = remote_flags & (scope->home ? KPF_ADDRESS_GROUP | KPF_ADDRESS_DIRECTED : KPF_ADDRESS_GROUP);
    if (flow->direction == KPF_OUT && group && scope->loopback != KPF_YES) {
        u32 family = !kpf_is_ipv4(flow->remote);

        if (adapter && adapter->own_zone >> (2 + family) & 1)
            scope->remote_zone = adapter->own_zone >> family & 1;
        else if (!known)
            scope->remote_zone = KPF_UNKNOWN; /* the source may be another adapter's address */
        else
            scope->remote_zone = scope->local_zone;
    }
}

/*
 * Everything the classifier knows of one flow after its lookups. Numbers rather than pointers where both would do:
 * the verifier walks the loops once per kind of pointer that is alive in them.
 */
struct kpf_numbers {
    u32 slot;
    struct kpf_scope scope;
    u16 cells[2];   /* positions of the owner's cells in the flow's direction, for zone: Internet, trusted */
    u16 instead;    /* the position of "modified", which decides behind the guard... */
    u8 modified;    /* ... if this is 1, and not 0 */
    u8 component;   /* what the application is, unless modified */
};
struct kpf_case {
    struct kpf_image *image;
    struct kpf_rows *rows;
    struct kpf_pool *pool;
    struct kpf_numbers numbers;
    struct kpf_classes classes;
    union {                     /* one after the other: the stack has no room for both */
        struct kpf_application_key application;
        struct kpf_prefix prefix;
        struct kpf_named_key named;
        struct kpf_chunk chunk;
    } room;
};

/* What was in the room is over: the verifier need not tell ways here by it. `nought` is 0. */
static __always_inline void kpf_leave_room(struct kpf_case *this, u64 nought)
{
    volatile u64 *words = this->room.chunk.words;
    u32 word;

#pragma unroll
    for (word = 0; word < KPF_CHUNK_WORDS; word++)
        words[word] = nought;
}

static __always_inline void kpf_set_application(struct kpf_owner *owner, const struct kpf_application *application)
{
    owner->class_ = application->class_;
    owner->component = application->component;
    owner->cells[0] = application->cells[0];
    owner->cells[1] = application->cells[1];
    owner->cells[2] = application->cells[2];
    owner->cells[3] = application->cells[3];
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
static __always_inline int kpf_find_application(struct kpf_case *this, const struct kpf_flow *flow,
                                                struct kpf_owner *owner)
{
    struct kpf_application_key *key = &this->room.application;
    struct kpf_application_file *file = NULL;
    void *applications_of = applications.lookup((int *)&this->numbers.slot);

    if (!applications_of)
        return -1;
    owner->instead = 0;
    owner->modified = 0;
    kpf_set_application(owner, &this->image->components[flow->component & (KPF_COMPONENTS - 1)]);
    if (flow->component)
        return 0;
    key->inode = flow->application.inode;
    key->device = flow->application.device;
    key->generation = flow->application.generation;
    file = bpf_map_lookup_elem(applications_of, key);
    if (!file)
        return 0;
    if (kpf_is_accepted(file, &flow->application)) {
        kpf_set_application(owner, &file->application);
    } else {
        owner->instead = file->application.modified;
        owner->modified = 1;
    }
    return 0;
}

static __always_inline int kpf_look_up_owner(struct kpf_case *this, const struct kpf_flow *flow,
                                             struct kpf_owner *owner)
{
    void *users_of = users.lookup((int *)&this->numbers.slot);
    void *cgroups_of = cgroups.lookup((int *)&this->numbers.slot);
    u32 uid = flow->uid, *found;
    u64 cgroup = flow->cgroup, *mark;

    if (!users_of || !cgroups_of || kpf_find_application(this, flow, owner))
        return -1;
    found = bpf_map_lookup_elem(users_of, &uid);
    owner->user = found ? *found : this->image->users;
    mark = cgroup_marks.lookup(&cgroup);
    cgroup = mark ? *mark : 0;
    found = bpf_map_lookup_elem(cgroups_of, &cgroup);
    owner->cgroup = found ? *found : this->image->cgroups;
    return 0;
}

/* What the image says of who owns the flow: as remembered, or looked up. */
static __always_inline int kpf_find_owner(struct kpf_case *this, const struct kpf_flow *flow, u64 active_word)
{
    struct kpf_owner_memo *memo = kpf_owner_memo_of(flow);
    struct kpf_owner owner = {};
    u64 nought = kpf_nought(&flow->uid);
    u32 out = -(u32)(flow->direction & KPF_OUT);

    if (!memo)
        return -1;
    if (!kpf_recall_owner(memo, flow, active_word, &owner)) {
        if (kpf_look_up_owner(this, flow, &owner))
            return -1;
        kpf_keep_owner(memo, flow, active_word, &owner);
    }
    kpf_leave_room(this, nought);
    this->classes.of[KPF_FIELD_APPLICATION] = kpf_opaque(owner.class_ ^ nought);
    this->classes.of[KPF_FIELD_USER] = kpf_opaque(owner.user ^ nought);
    this->classes.of[KPF_FIELD_CGROUP] = kpf_opaque(owner.cgroup ^ nought);
    this->numbers.component = kpf_opaque(owner.component ^ nought);
    this->numbers.instead = kpf_opaque(owner.instead ^ nought);
    this->numbers.modified = kpf_opaque(owner.modified ^ nought);
    this->numbers.cells[0] = kpf_opaque(((owner.cells[1] & out) | (owner.cells[0] & ~out)) ^ nought);
    this->numbers.cells[1] = kpf_opaque(((owner.cells[3] & out) | (owner.cells[2] & ~out)) ^ nought);
    return 0;
}

static __always_inline int kpf_find_ports(struct kpf_case *this, const struct kpf_flow *flow)
{
    struct kpf_image *image = this->image;
    struct kpf_ports *all;
    u32 zero = 0, local_port, remote_port, sure;
    void *ports_of = ports.lookup((int *)&this->numbers.slot);

    if (!ports_of)
        return -1;
    all = bpf_map_lookup_elem(ports_of, &zero);
    if (!all)
        return -1;
    local_port = image->no_local_port;
    remote_port = image->no_remote_port;
    sure = image->everything;
    if (kpf_is_icmp(flow->protocol)) {
        local_port = image->icmp[flow->icmp < KPF_ICMP_CLASSES ? flow->icmp : KPF_ICMP_CLASSES - 1];
        remote_port = image->everything;
    } else if (flow->known & KPF_HAS_PORTS) {
        remote_port = all->port[flow->remote_port].remote_class;
        if (flow->known & KPF_KNOWS_LOCAL_PORT) {
            local_port = all->port[flow->local_port].local_class;
        } else {
            sure = image->no_local_port;
            local_port = image->everything;
        }
    }
    /* written at one place, and so of one kind, whatever the way here: the verifier goes on once */
    this->classes.of[KPF_FIELD_LOCAL_PORT] = kpf_opaque(local_port ^ kpf_nought(&flow->uid));
    this->classes.of[KPF_FIELD_REMOTE_PORT] = kpf_opaque(remote_port ^ kpf_nought(&flow->uid));
    this->classes.sure[1] = kpf_opaque(sure ^ kpf_nought(&flow->uid));
    return 0;
}

/* The whole of an address, as a key. */
static __always_inline void kpf_prefix_of(struct kpf_prefix *prefix, const u32 address[4])
{
    u32 ipv4 = -kpf_is_ipv4(address);

    prefix->bits = 160 - (96 & ipv4);
    prefix->family = ipv4;
    prefix->address[0] = (address[0] & ~ipv4) | (address[3] & ipv4);
    prefix->address[1] = address[1];
    prefix->address[2] = address[2];
    prefix->address[3] = address[3];
}

static __always_inline int kpf_look_up_address(struct kpf_case *this, const u32 address[4], u32 *number,
                                               struct kpf_named *named_as)
{
    void *hosts_of = hosts.lookup((int *)&this->numbers.slot);
    void *addresses_of = addresses.lookup((int *)&this->numbers.slot);
    struct kpf_named *name = NULL;
    u32 *found = NULL;

    if (!hosts_of || !addresses_of)
        return -1;
    /* in any case: else the verifier walks on for a stack with it and without */
    kpf_prefix_of(&this->room.prefix, address);
    if (this->image->hosts)
        found = bpf_map_lookup_elem(hosts_of, address);
    if (!found) {
        found = bpf_map_lookup_elem(addresses_of, &this->room.prefix);
        if (!found) /* every image has the prefixes of all addresses */
            return -1;
    }
    *number = *found;
    this->room.named.slot = this->numbers.slot; /* the rest of the key is in its place already */
    name = named.lookup(&this->room.named);
    if (name)
        *named_as = *name;
    return 0;
}

/* What the image knows of an address, remembered or looked up. `named_as`: what it is by itself, beside its prefixes. */
static __always_inline const struct kpf_address *kpf_find_address(struct kpf_case *this, const u32 address[4],
                                                                  u64 active_word, struct kpf_named *named_as)
{
    struct kpf_address_memo *memo = kpf_address_memo_of(address);
    void *kinds_of = address_kinds.lookup((int *)&this->numbers.slot);
    struct kpf_addresses *all;
    u32 zero = 0, number = 0;

    if (!memo || !kinds_of)
        return NULL;
    all = bpf_map_lookup_elem(kinds_of, &zero);
    if (!all)
        return NULL;
    if (!kpf_recall_address(memo, address, active_word, &number, named_as)) {
        named_as->local_row = 0;
        named_as->remote_row = 0;
        named_as->flags = 0;
        if (kpf_look_up_address(this, address, &number, named_as))
            return NULL;
        kpf_keep_address(memo, address, active_word, number, named_as);
    }
    kpf_leave_room(this, kpf_nought(address));
    number = kpf_opaque(number ^ kpf_nought(address));
    named_as->local_row = kpf_opaque(named_as->local_row ^ kpf_nought(address));
    named_as->remote_row = kpf_opaque(named_as->remote_row ^ kpf_nought(address));
    named_as->flags = kpf_opaque(named_as->flags ^ kpf_nought(address));
    return &all->address[number & (KPF_ADDRESSES - 1)];
}

static __always_inline int kpf_find_classes(struct kpf_case *this, const struct kpf_flow *flow, u64 active_word)
{
    struct kpf_image *image = this->image;
    const struct kpf_address *local, *remote;
    struct kpf_named name;
    u32 scope, known, internet, trusted, zone, local_flags;

    local = kpf_find_address(this, flow->local, active_word, &name);
    if (!local)
        return -1;
    this->classes.named_local = name.local_row;
    local_flags = local->flags | name.flags;
    remote = kpf_find_address(this, flow->remote, active_word, &name);
    if (!remote)
        return -1;
    this->classes.named_remote = name.remote_row;
    kpf_find_scope(this->numbers.slot, flow, this->image, local, local_flags, remote, remote->flags | name.flags,
                   &this->numbers.scope);
    this->numbers.scope.home = kpf_opaque(this->numbers.scope.home ^ kpf_nought(&flow->uid));
    this->numbers.scope.loopback = kpf_opaque(this->numbers.scope.loopback ^ kpf_nought(&flow->uid));
    this->numbers.scope.local_zone = kpf_opaque(this->numbers.scope.local_zone ^ kpf_nought(&flow->uid));
    this->numbers.scope.remote_zone = kpf_opaque(this->numbers.scope.remote_zone ^ kpf_nought(&flow->uid));
    this->classes.of[KPF_FIELD_REMOTE_ADDRESS] = remote->remote_class;
    known = flow->known & KPF_KNOWS_LOCAL_ADDRESS;
    this->classes.of[KPF_FIELD_LOCAL_ADDRESS] =
        kpf_opaque((known ? local->local_class : image->everything) ^ kpf_nought(&flow->uid));
    this->classes.sure[0] = kpf_opaque((known ? image->everything : image->no_local_address) ^ kpf_nought(&flow->uid));
    this->classes.of[KPF_FIELD_PROTOCOL] = image->protocols[flow->protocol];
    /* the two cells differ afterwards only where the zone is unknown */
    internet = this->numbers.cells[0];
    trusted = this->numbers.cells[1];
    zone = this->numbers.scope.remote_zone;
    this->numbers.cells[0] = kpf_opaque((zone == KPF_YES ? trusted : internet) ^ kpf_nought(&flow->uid));
    this->numbers.cells[1] = kpf_opaque((zone == KPF_NO ? internet : trusted) ^ kpf_nought(&flow->uid));
    scope = kpf_scope_index(flow, &this->numbers.scope);
    if (scope >= KPF_SCOPES)
        return -1;
    this->classes.of[KPF_FIELD_SCOPE] = image->scopes[scope];
    this->classes.sure[2] = image->sure_scopes[scope];
    this->classes.permits = image->permits;
    return kpf_find_ports(this, flow);
}
