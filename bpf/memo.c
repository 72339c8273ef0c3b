/*
 * What was looked up lately of owners and of addresses: a place in an array by a hash of the key, which the next one with
 * that hash takes. So a flow of a program that was met before, to an address that was met before, asks no hash and no
 * trie, however large these are. A memo counts under the active word that it was made under. Whoever writes one has its
 * lock and counts `writes` up, as with kpf_cache.
 */
static __always_inline u64 kpf_mixed(u64 one, u64 other)
{
    one ^= other * 0xff51afd7ed558ccdULL;
    one ^= one >> 32; /* else the upper half, where addresses differ, would tell nothing */
    one *= 0x9e3779b97f4a7c15ULL;
    return (one ^ one >> 32) >> 16; /* else whole rows of addresses would have one place */
}

static __always_inline struct kpf_address_memo *kpf_address_memo_of(const u32 address[4])
{
    u64 first = (u64)address[0] << 32 | address[1], last = (u64)address[2] << 32 | address[3];
    u32 at = kpf_mixed(last, first) & (KPF_ADDRESS_MEMOS - 1);

    return address_memos.lookup(&at);
}

/* 1: `number` is what the image under the active word says of the address. */
static __always_inline int kpf_recall_address(const volatile struct kpf_address_memo *memo, const u32 address[4],
                                              u64 active_word, u32 *number, struct kpf_named *named_as)
{
    u32 before = memo->writes;
    u64 other = memo->active ^ active_word;

    other |= (memo->address[0] ^ address[0]) | (memo->address[1] ^ address[1]);
    other |= (memo->address[2] ^ address[2]) | (memo->address[3] ^ address[3]);
    *number = memo->number;
    named_as->local_row = memo->named.local_row;
    named_as->remote_row = memo->named.remote_row;
    named_as->flags = memo->named.flags;
    return !(other | (before ^ memo->writes) | (before & 1));
}

static __always_inline void kpf_keep_address(struct kpf_address_memo *locked, const u32 address[4], u64 active_word,
                                             u32 number, const struct kpf_named *named_as)
{
    volatile struct kpf_address_memo *memo = locked;

    bpf_spin_lock(&locked->lock);
    memo->writes |= 1;
    memo->active = active_word;
    memo->address[0] = address[0];
    memo->address[1] = address[1];
    memo->address[2] = address[2];
    memo->address[3] = address[3];
    memo->number = number;
    memo->named.local_row = named_as->local_row;
    memo->named.remote_row = named_as->remote_row;
    memo->named.flags = named_as->flags;
    memo->writes += 1;
    bpf_spin_unlock(&locked->lock);
}

/* 0: the two are the same. */
static __always_inline u64 kpf_other_file(const volatile struct kpf_file *one, const struct kpf_file *other)
{
    return (one->inode ^ other->inode) | (one->device ^ other->device) | (one->generation ^ other->generation) |
           (one->ctime_seconds ^ other->ctime_seconds) | (one->ctime_nanoseconds ^ other->ctime_nanoseconds);
}

static __always_inline void kpf_copy_file(volatile struct kpf_file *to, const struct kpf_file *from)
{
    to->inode = from->inode;
    to->device = from->device;
    to->generation = from->generation;
    to->ctime_seconds = from->ctime_seconds;
    to->ctime_nanoseconds = from->ctime_nanoseconds;
}

static __always_inline struct kpf_owner_memo *kpf_owner_memo_of(const struct kpf_flow *flow)
{
    const struct kpf_file *file = &flow->application;
    u32 at = kpf_mixed(file->inode ^ (u64)file->device << 32 ^ flow->component, flow->cgroup << 32 ^ flow->uid) &
             (KPF_OWNER_MEMOS - 1);

    return owner_memos.lookup(&at);
}

static __always_inline int kpf_recall_owner(const volatile struct kpf_owner_memo *memo, const struct kpf_flow *flow,
                                            u64 active_word, struct kpf_owner *owner)
{
    const volatile u64 *from = (void *)&memo->owner;
    u64 *to = (void *)owner, other = memo->active ^ active_word;
    u32 before = memo->writes, i;

    other |= kpf_other_file(&memo->application, &flow->application);
    other |= (memo->cgroup ^ flow->cgroup) | (memo->uid ^ flow->uid) | (memo->component ^ flow->component);
#pragma unroll
    for (i = 0; i < sizeof(*owner) / 8; i++)
        to[i] = from[i];
    return !(other | (before ^ memo->writes) | (before & 1));
}

static __always_inline void kpf_keep_owner(struct kpf_owner_memo *locked, const struct kpf_flow *flow, u64 active_word,
                                           const struct kpf_owner *owner)
{
    volatile struct kpf_owner_memo *memo = locked;
    const u64 *from = (void *)owner;
    volatile u64 *to = (void *)&memo->owner;
    u32 i;

    bpf_spin_lock(&locked->lock);
    memo->writes |= 1;
    memo->active = active_word;
    kpf_copy_file(&memo->application, &flow->application);
    memo->cgroup = flow->cgroup;
    memo->uid = flow->uid;
    memo->component = flow->component;
#pragma unroll
    for (i = 0; i < sizeof(*owner) / 8; i++)
        to[i] = from[i];
    memo->writes += 1;
    bpf_spin_unlock(&locked->lock);
}

/*
 * Where connect() leaves what settled it, and finds it again: a verdict that nothing still open can change is one of owner
 * and remote point alone (as it was named; port in network order). A socket that is bound asks anew: kpf_is_bound().
 */
static __always_inline struct kpf_settled_memo *kpf_settled_memo_of(const struct kpf_identity *who, const u64 remote[2],
                                                                    u16 port)
{
    u64 owner = who->application.inode ^ who->cgroup << 40 ^ (u64)who->uid << 20;
    u32 at = kpf_mixed(remote[0] ^ remote[1] ^ (u64)port << 16, owner) & (KPF_SETTLED_MEMOS - 1);

    return settled_memos.lookup(&at);
}

static __always_inline int kpf_recall_settled(const volatile struct kpf_settled_memo *memo, const struct kpf_identity *who,
                                              const u64 remote[2], u16 port, u64 active_word, struct kpf_rule *rule)
{
    u32 before = memo->writes;
    u64 other = memo->active ^ active_word;

    other |= kpf_other_file(&memo->application, &who->application);
    other |= (memo->cgroup ^ who->cgroup) | (memo->netns_cookie ^ who->netns_cookie) | (memo->uid ^ who->uid);
    other |= (memo->remote[0] ^ remote[0]) | (memo->remote[1] ^ remote[1]);
    other |= (memo->remote_port ^ port) | (memo->component ^ who->component);
    rule->counter = memo->rule.counter;
    rule->action = memo->rule.action;
    rule->step = memo->rule.step;
    rule->flags = memo->rule.flags;
    return !(other | (before ^ memo->writes) | (before & 1));
}

static __always_inline void kpf_keep_settled(struct kpf_settled_memo *locked, const struct kpf_flow *flow,
                                             const u64 remote[2], u64 active_word, const struct kpf_rule *rule)
{
    volatile struct kpf_settled_memo *memo = locked;

    bpf_spin_lock(&locked->lock);
    memo->writes |= 1;
    memo->active = active_word;
    kpf_copy_file(&memo->application, &flow->application);
    memo->cgroup = flow->cgroup;
    memo->netns_cookie = flow->netns_cookie;
    memo->remote[0] = remote[0];
    memo->remote[1] = remote[1];
    memo->uid = flow->uid;
    memo->remote_port = bpf_htons(flow->remote_port);
    memo->component = flow->component;
    memo->rule.counter = rule->counter;
    memo->rule.action = rule->action;
    memo->rule.step = rule->step;
    memo->rule.flags = rule->flags;
    memo->writes += 1;
    bpf_spin_unlock(&locked->lock);
}
