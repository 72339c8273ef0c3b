/*
 * Around the classifier: the active word, counters, events, and the memory of flows (step 2, state).
 */
#define KPF_UNANSWERED (30 * KPF_HZ) /* jiffies: reading them costs nothing */
#define KPF_ANSWERED (180 * KPF_HZ)

/* The active word, or what counts in its place since nobody confirmed it in time. */
static __always_inline u64 kpf_current(u64 word)
{
    u32 zero = 0;
    struct kpf_trial *on_trial;

    if (!(word & KPF_ACTIVE_ON_TRIAL))
        return word;
    on_trial = trial.lookup(&zero);
    if (on_trial && on_trial->until && on_trial->word == word && bpf_ktime_get_ns() >= on_trial->until)
        return on_trial->instead;
    return word;
}

/* Whether the Engine has died under a policy that then is to permit everything. Stop-all outlives it. */
static __always_inline int kpf_is_open(u64 word)
{
    u32 zero = 0;
    u64 *beat;

    if (!KPF_ACTIVE_OPENS(word) || KPF_ACTIVE_STOP_ALL(word))
        return 0;
    beat = heartbeat.lookup(&zero);
    return !beat || bpf_ktime_get_ns() > *beat + KPF_HEARTBEAT_COUNTS;
}

/*
 * What is enforced; 0 (KPF_DEFAULT_NO_IMAGE): nothing, whatever the generation. One look per program run. Which of its bits
 * were looked at, the verifier is to forget.
 */
static __always_inline u64 kpf_active(void)
{
    const volatile struct kpf_active_word *enforced = (void *)kpf_opaque(KPF_ACTIVE_VALUE);
    u64 current = enforced->word;

    if (current & (KPF_ACTIVE_ON_TRIAL | KPF_ACTIVE_MAY_OPEN)) {
        current = kpf_current(current);
        if (kpf_is_open(current))
            return 0;
    }
    if (!(current & KPF_ACTIVE_SOME))
        return 0;
    return kpf_opaque(current ^ enforced->nought);
}

/* Credits a packet, and with `new_flow` a judged flow, to a rule. */
static __always_inline void kpf_count(const struct kpf_rule *rule, u32 packets, u32 bytes, int new_flow)
{
    u32 key = rule->counter;
    struct kpf_counter *counter = counters.lookup(&key);

    if (!counter)
        return;
    counter->packets += packets;
    counter->bytes += bytes;
    if (new_flow)
        counter->hits += 1;
}

/*
 * Whether one more flow may be told of. Who makes denied attempts as fast as it can shall not be held up by being logged,
 * nor hold up the Engine.
 */
static __always_inline int kpf_may_tell(void)
{
    u64 stretch = bpf_jiffies64() / (2 * KPF_HZ);
    u32 zero = 0;
    struct kpf_told *so_far = told.lookup(&zero);

    if (!so_far)
        return 0;
    if (so_far->stretch != stretch) {
        so_far->stretch = stretch;
        so_far->count = 0;
    }
    if (so_far->count >= KPF_TOLD_AT_MOST)
        return 0;
    so_far->count += 1;
    return 1;
}

static __always_inline void kpf_report(void *ctx, struct kpf_event *event, const struct kpf_rule *rule, u8 hook)
{
    if (!(rule->flags & (KPF_RULE_LOG | KPF_RULE_ALERT)))
        return;
    if (!kpf_may_tell()) {
        kpf_count_default(KPF_DEFAULT_EVENT_LOST);
        return;
    }
    event->time = bpf_ktime_get_ns();
    event->counter = rule->counter;
    event->action = rule->action;
    event->hook = hook;
    event->flags = rule->flags;
    kpf_count_default(events.perf_submit(ctx, event, sizeof(*event)) ? KPF_DEFAULT_EVENT_LOST
                                                                     : KPF_DEFAULT_EVENT_SEEN);
}

/* BCC declares it as 32 bits: two of a busy host's sockets would be one. */
static u64 (*kpf_socket_cookie)(void *ctx) = (void *)BPF_FUNC_get_socket_cookie;

static __always_inline void kpf_flow_key_of(struct kpf_flow_key *key, const struct kpf_flow *flow, u64 cookie, u16 id)
{
    key->cookie = cookie;
    __builtin_memcpy(key->remote, flow->remote, 16);
    key->remote_port = flow->remote_port;
    key->id = id;
    key->protocol = flow->protocol;
}

/* For flows that no state remembers (the denied ones above all): a repeat within 30 s is not a new flow. */
static __always_inline int kpf_is_new(struct kpf_flow_key *key, const struct kpf_rule *rule, u64 active_word)
{
    struct kpf_recent now = {.active = active_word, .seen = bpf_jiffies64(), .counter = rule->counter};
    struct kpf_recent *before = recent.lookup(key);

    if (before && before->active == active_word && before->counter == rule->counter &&
        now.seen - before->seen < KPF_UNANSWERED) {
        before->seen = now.seen;
        return 0;
    }
    recent.update(key, &now);
    return 1;
}

static __always_inline int kpf_is_live(const struct kpf_flow_state *state, u64 now, int connected)
{
    return connected || now - state->seen < (state->answered ? KPF_ANSWERED : KPF_UNANSWERED);
}
