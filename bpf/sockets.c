/*
 * The socket hooks: who owns a socket, and the early verdict. None of them permits anything: what they let go
 * is judged by the packet hooks. They return 1 (go on) or 0 (EPERM).
 */

/* cgroup/sock_create: the owner is whoever creates it, until somebody binds or connects it. */
KPF_SOCKETS_PROGRAM kpf_sock_create(struct bpf_sock *sk)
{
    struct kpf_identity *who = identity.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

    if (!who)
        return 1; /* KPF_DEFAULT_NO_MEMORY: its owner stays "unknown", its packets get the default */
    kpf_take_over(who);
    who->netns_cookie = bpf_get_netns_cookie(sk);
    who->cgroup = bpf_get_current_cgroup_id();
    return 1;
}

/* cgroup/post_bind4, post_bind6: a listener belongs to the process that bound it. Never a verdict. */
static __always_inline int kpf_bound(struct bpf_sock *sk)
{
    struct kpf_identity *who = identity.sk_storage_get(sk, 0, 0);

    if (who)
        kpf_take_over(who);
    return 1;
}

KPF_SOCKETS_PROGRAM kpf_post_bind4(struct bpf_sock *sk)
{
    return kpf_bound(sk);
}

KPF_SOCKETS_PROGRAM kpf_post_bind6(struct bpf_sock *sk)
{
    return kpf_bound(sk);
}

/* The remote address as it was named, in the words of a kpf_header. (Opaque: else LLVM makes one load of two.) */
static __always_inline void kpf_named_remote(const struct bpf_sock_addr *ctx, u64 remote[2])
{
    if (kpf_number() & KPF_REACH_IPV4) {
        kpf_map_header(remote, kpf_opaque(ctx->user_ip4));
    } else {
        remote[0] = kpf_opaque(ctx->user_ip6[0] | (u64)ctx->user_ip6[1] << 32);
        remote[1] = kpf_opaque(ctx->user_ip6[2] | (u64)ctx->user_ip6[3] << 32);
    }
}

/* Fills what a hook knows before there is a packet: the remote point as named, the local point if bound. */
static __always_inline void kpf_early_flow(struct kpf_flow *flow, struct bpf_sock_addr *ctx, const u64 remote[2])
{
    const volatile struct bpf_sock *sk = ctx->sk; /* volatile: else LLVM 19 merges loads by adding to the pointer */
    u32 bound, source;
    u16 port;

    flow->direction = KPF_OUT;
    flow->protocol = ctx->protocol;
    flow->remote_port = bpf_ntohs(ctx->user_port);
    if (kpf_protocol_has_ports(flow->protocol))
        flow->known = KPF_HAS_PORTS;
    __builtin_memcpy(flow->remote, remote, 16);
    if (kpf_is_unspecified(flow->remote)) { /* the kernel takes it for the loopback address */
        if (kpf_is_ipv4(flow->remote))
            kpf_map_ipv4(flow->remote, bpf_htonl(0x7f000001));
        else
            flow->remote[3] = bpf_htonl(1);
    }
    if (!sk)
        return;
    bound = sk->bound_dev_if;
    port = sk->src_port;
    source = sk->src_ip4; /* here, not below: LLVM would make one load of both branches' */
    if (bound) {
        flow->ifindex = bound;
        flow->known |= KPF_KNOWS_ADAPTER;
    }
    if (port) {
        flow->local_port = port;
        flow->known |= KPF_KNOWS_LOCAL_PORT;
    }
    if (kpf_is_ipv4(flow->remote)) {
        kpf_map_ipv4(flow->local, source);
    } else {
        flow->local[0] = sk->src_ip6[0];
        flow->local[1] = sk->src_ip6[1];
        flow->local[2] = sk->src_ip6[2];
        flow->local[3] = sk->src_ip6[3];
    }
    if (!kpf_is_unspecified(flow->local))
        flow->known |= KPF_KNOWS_LOCAL_ADDRESS;
    else
        __builtin_memset(flow->local, 0, 16);
}

/* An early verdict; in memory, so that the verifier can be made to forget which way it was found. */
struct kpf_early_verdict {
    u64 outcome; /* enum kpf_outcome */
    struct kpf_rule rule;
};

/* -1: the image is broken, which is the packet hooks' to say (KPF_DEFAULT_BROKEN_IMAGE). */
static __always_inline int kpf_find_early(const struct kpf_event *event, struct kpf_early_verdict *found)
{
    struct kpf_case this = {};

    if (kpf_open_case(&this, &event->flow, event->active))
        return -1;
    __builtin_memset(found, 0, sizeof(*found));
    found->outcome = kpf_classify_early(&this, event->active, &found->rule);
    kpf_forget(found, sizeof(*found));
    return 0;
}

/* Denied early: counted, reported, and EPERM (0); otherwise 1, and the packet hooks decide. */
static __always_inline int kpf_deny_early(struct bpf_sock_addr *ctx, struct kpf_event *event,
                                          const struct kpf_rule *rule, u8 hook)
{
    struct kpf_flow_key key = {};

    kpf_flow_key_of(&key, &event->flow, kpf_socket_cookie(ctx), 0);
    if (kpf_is_new(&key, rule, event->active)) {
        kpf_count(rule, 0, 0, 1);
        kpf_report(ctx, event, rule, hook);
    }
    return 0;
}

/* Whether a verdict is the connection's before its first packet: not what must be told of, or mirrored, at that. */
static __always_inline int kpf_can_settle(const struct kpf_rule *rule)
{
    return rule->step != KPF_STEP_INTERNAL && !(rule->flags & (KPF_RULE_LOG | KPF_RULE_ALERT));
}

/* Settles a connection, as far as it is known yet: see kpf_opens_settled(). The port is in network order. */
static __always_inline void kpf_settle_connection(struct kpf_identity *who, const u64 remote[2], u16 port, u64 active_word,
                                                  const struct kpf_rule *rule)
{
    volatile struct kpf_cache *cached = &who->cache;
    volatile struct kpf_upper *upper = &who->upper;

    cached->active = active_word;
    cached->last[1] = remote[1] >> 32;
    cached->ports = (u32)port << 16;
    cached->kind = kpf_cached_kind(KPF_TCP, kpf_is_ipv4_in(remote), rule->action, KPF_PASSES_IN | KPF_PASSES_OUT);
    cached->counter = rule->counter;
    upper->words[1] = remote[0];
    upper->words[2] = remote[1] << 32;
    *(volatile u8 *)&who->unsent = 1;
}

/* Whether adapter, source address or source port of a connection are given before it begins. */
static __always_inline int kpf_is_bound(const struct bpf_sock_addr *ctx)
{
    const volatile struct bpf_sock *sk = ctx->sk; /* volatile: as above */
    u32 any;

    if (!sk)
        return 0;
    any = sk->bound_dev_if;
    any |= sk->src_port;
    any |= sk->src_ip4;
    if (!(kpf_number() & KPF_REACH_IPV4)) {
        any |= sk->src_ip6[0];
        any |= sk->src_ip6[1];
        any |= sk->src_ip6[2];
        any |= sk->src_ip6[3];
    }
    return any != 0;
}

/*
 * A connection begins; its owner is who begins it. NULL: there is nothing to judge, or what was settled for another one
 * counts for this one, too. That is put with the socket without a lock, so only if no packet can write there at the same
 * time: the socket was made under the hooks, and was not connected before; nor, so far as segments came, did it listen.
 */
static __always_inline struct kpf_settled_memo *kpf_connects(struct bpf_sock_addr *ctx, struct kpf_identity *who,
                                                             const u64 remote[2], u64 active_word)
{
    int first = who->version && !(who->adopted | who->initiator);
    struct kpf_settled_memo *settled;
    struct kpf_rule rule = {};

    kpf_take_over(who);
    kpf_drop_cache(who);
    who->initiator = KPF_INITIATOR_OUT;
    if (!who->netns_cookie)
        who->netns_cookie = bpf_get_netns_cookie(ctx);
    if (!who->cgroup)
        who->cgroup = bpf_get_current_cgroup_id();
    if (ctx->protocol != KPF_TCP || !active_word)
        return NULL; /* connect() of a datagram socket sends nothing and never fails */
    settled = kpf_settled_memo_of(who, remote, ctx->user_port);
    if (!settled || kpf_is_bound(ctx) ||
        !kpf_recall_settled(settled, who, remote, ctx->user_port, active_word, &rule))
        return settled; /* NULL cannot be */
    if (first) /* else its packet is judged once more */
        kpf_settle_connection(who, remote, ctx->user_port, active_word, &rule);
    return NULL;
}

/*
 * An unconnected datagram belongs to the process that sends it, not to the socket's owner: the flow entry says
 * so to the packet hook. A flow that came in, or that the same process already began, is left as it is.
 */
static __always_inline struct kpf_flow_state *kpf_begun(const struct kpf_flow *flow, u64 cookie)
{
    struct kpf_flow_key key = {};
    struct kpf_flow_state *state;

    kpf_flow_key_of(&key, flow, cookie, 0);
    state = flows.lookup(&key);
    return state && kpf_is_live(state, bpf_jiffies64(), 0) ? state : NULL;
}

static __always_inline void kpf_begin(const struct kpf_flow *flow, u64 cookie, u32 pid)
{
    struct kpf_flow_key key = {};
    struct kpf_flow_state state = {}, *before;

    kpf_flow_key_of(&key, flow, cookie, 0);
    before = flows.lookup(&key);
    if (before) { /* the rule it had, so that the same rule again is not a new flow */
        state.rule = before->rule;
        state.answered = before->answered;
    }
    state.application = flow->application;
    state.component = flow->component;
    state.uid = flow->uid;
    state.pid = pid;
    state.seen = bpf_jiffies64();
    state.initiator = KPF_INITIATOR_OUT;
    if (flows.update(&key, &state))
        kpf_count_default(KPF_DEFAULT_NO_MEMORY);
}

/* Whether the process is who the memo says, of which it had `before` writes. The file is looked up when it may be new. */
static __always_inline int kpf_is_sender(struct kpf_flow_memo *memo, u32 before, u32 pid)
{
    volatile u64 *last = kpf_became(pid);
    u64 became_then = last ? *last : KPF_NEVER;
    struct kpf_file file;
    u8 component;

    if (memo->pid != pid)
        return 0;
    if (*(volatile u64 *)&memo->became == became_then && became_then != KPF_NEVER)
        return 1;
    kpf_identify_process(pid, &file, &component);
    if (memo->owner != kpf_owner_mark(&file))
        return 0;
    bpf_spin_lock(&memo->cache.lock);
    if (memo->cache.writes == before)
        memo->became = became_then;
    bpf_spin_unlock(&memo->cache.lock);
    return 1;
}

/* Whether the process sends to where it sent a moment ago, by this socket and as the same program. */
static __always_inline int kpf_sends_on(struct kpf_flow_memo *known, struct bpf_sock_addr *ctx,
                                        const u64 remote[2], u64 cookie, u64 active_word, u32 pid)
{
    const volatile struct kpf_flow_memo *memo = known;
    u32 before = memo->cache.writes;
    u64 other = memo->cache.active ^ active_word, kind = memo->cache.kind, ipv4 = kpf_is_ipv4_in(remote);

    other |= ((kind ^ kpf_cache_kind(ctx->protocol, ipv4)) & KPF_KIND_ALL) | (~kind & KPF_PASSES_OUT << 8);
    other |= (memo->cache.ports >> 16 ^ ctx->user_port) | (memo->cache.last[1] ^ remote[1] >> 32);
    other |= kpf_other_memo(memo, cookie);
    if (!ipv4)
        other |= (memo->upper.words[1] ^ remote[0]) | (memo->upper.words[2] >> 32 ^ (remote[1] & 0xffffffff));
    if (other | (before & 1))
        return 0;
    if (!(kind & KPF_PASSES_ANYBODY << 8) && !kpf_is_sender(known, before, pid))
        return 0;
    return before == memo->cache.writes;
}

/* The memo of a datagram that is about to be sent. NULL: there is nothing to judge, or not again. */
static __always_inline struct kpf_flow_memo *kpf_sends(struct bpf_sock_addr *ctx, struct kpf_identity *who,
                                                       const u64 remote[2], u64 active_word)
{
    struct kpf_flow_memo *memo;

    if (!active_word)
        return NULL; /* KPF_DEFAULT_NO_IMAGE: judged at its packet */
    if (!who->cookie)
        who->cookie = kpf_socket_cookie(ctx);
    memo = kpf_flow_memo_of(who->cookie, remote, ctx->user_port);
    if (!memo || kpf_sends_on(memo, ctx, remote, who->cookie, active_word, bpf_get_current_pid_tgid() >> 32))
        return NULL;
    return memo;
}

/* What is known of a connection. */
static __always_inline void kpf_describe_connection(struct kpf_event *event, struct bpf_sock_addr *ctx,
                                                    const struct kpf_identity *who, const u64 remote[2])
{
    kpf_early_flow(&event->flow, ctx, remote);
    kpf_flow_owner(&event->flow, who);
    event->pid = who->pid;
}

/* What is known of a datagram. -1: its flow came in, or was begun by the same process: it is left as it is. */
static __always_inline int kpf_describe_datagram(struct kpf_event *event, struct bpf_sock_addr *ctx,
                                                 struct kpf_identity *who, const u64 remote[2])
{
    struct kpf_flow *flow = &event->flow;
    struct kpf_flow_state *state;

    kpf_identify_caller(&flow->application, &flow->component, &event->pid, &flow->uid);
    kpf_early_flow(flow, ctx, remote);
    state = kpf_begun(flow, who->cookie);
    if (state && (state->initiator == KPF_INITIATOR_IN ||
                  (state->active == event->active && state->pid == event->pid &&
                   kpf_same_inode(&state->application, &flow->application))))
        return -1;
    if (!who->netns_cookie)
        who->netns_cookie = bpf_get_netns_cookie(ctx);
    flow->cgroup = who->cgroup;
    flow->netns_cookie = who->netns_cookie;
    return 0;
}

/* What no memo says: judged by what is known so early, and what is found is kept. `settled` of connect(), or `memo`. */
static __always_inline int kpf_judge_early(struct bpf_sock_addr *ctx, struct kpf_identity *who, const u64 remote[2],
                                           u64 active_word, struct kpf_settled_memo *settled, struct kpf_flow_memo *memo)
{
    struct kpf_event event = {.active = active_word};
    struct kpf_early_verdict found = {};
    u64 named[2];

    if (settled)
        kpf_describe_connection(&event, ctx, who, remote);
    else if (kpf_describe_datagram(&event, ctx, who, remote))
        return 1;
    kpf_forget(&event.flow, sizeof(event.flow));
    if (kpf_find_early(&event, &found))
        return 1;
    if (found.outcome == KPF_OUTCOME_DENIED)
        return kpf_deny_early(ctx, &event, &found.rule, settled ? KPF_HOOK_CONNECT : KPF_HOOK_SENDMSG);
    if (memo) {
        kpf_begin(&event.flow, who->cookie, event.pid);
        kpf_forget_flow(who->cookie, remote, ctx->user_port); /* its owner may be another one now */
    } else if (settled && found.outcome == KPF_OUTCOME_SETTLED && kpf_can_settle(&found.rule) &&
               !(event.flow.known & KPF_KNOWS_ALL)) {
        kpf_named_remote(ctx, named); /* again: the stack has no room for it so long */
        kpf_keep_settled(settled, &event.flow, named, event.active, &found.rule);
    }
    return 1;
}

/*
 * cgroup/connect4, connect6, sendmsg4, sendmsg6: whose the flow is, and often its verdict. What settles a connection is
 * kept for the next ones, whose packets then find it with their sockets.
 */
KPF_SOCKETS_PROGRAM kpf_reach(struct bpf_sock_addr *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    struct kpf_settled_memo *settled = NULL;
    struct kpf_flow_memo *memo = NULL;
    struct kpf_identity *who;
    u64 active_word = kpf_active(), remote[2];

    if (!sk)
        return 1; /* KPF_DEFAULT_NO_SOCKET: judged at its packets */
    who = identity.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!who)
        return 1; /* KPF_DEFAULT_NO_MEMORY: judged at its packets, as "unknown" */
    kpf_named_remote(ctx, remote);
    if (kpf_number() & KPF_REACH_CONNECT)
        settled = kpf_connects(ctx, who, remote, active_word);
    else
        memo = kpf_sends(ctx, who, remote, active_word);
    return settled || memo ? kpf_judge_early(ctx, who, remote, active_word, settled, memo) : 1;
}
