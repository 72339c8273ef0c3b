/*
 * Who a process is: the file it executes, taken from the kernel's own record at exec, never from a name.
 * The KPF_BTF_... offsets come from the running kernel's BTF (kpf_ebpf/kernel/btf.py).
 */
#define KPF_FUSE_MAGIC 0x65735546

static __always_inline u64 kpf_read_pointer(u64 base, u32 offset)
{
    u64 pointer = 0;

    if (base)
        bpf_probe_read_kernel(&pointer, sizeof(pointer), (void *)(base + offset));
    return pointer;
}

static __always_inline u32 kpf_read_u32(u64 base, u32 offset)
{
    u32 value = 0;

    if (base)
        bpf_probe_read_kernel(&value, sizeof(value), (void *)(base + offset));
    return value;
}

/* A file system whose files a user can invent: FUSE, or mounted in a user namespace of its own. */
static __always_inline int kpf_user_controls(u64 superblock)
{
    u64 magic = kpf_read_pointer(superblock, KPF_BTF_SUPER_BLOCK_S_MAGIC);
    u64 owner = kpf_read_pointer(superblock, KPF_BTF_SUPER_BLOCK_S_USER_NS);

    return magic == KPF_FUSE_MAGIC || kpf_read_u32(owner, KPF_BTF_USER_NAMESPACE_LEVEL) != 0;
}

/* Fills `key` from a struct file; leaves it zero ("unknown") for files that a user can invent. */
static __always_inline void kpf_identify_file(struct kpf_file *key, u64 file)
{
    u64 inode = kpf_read_pointer(file, KPF_BTF_FILE_F_INODE);
    u64 superblock = kpf_read_pointer(inode, KPF_BTF_INODE_I_SB);

    __builtin_memset(key, 0, sizeof(*key));
    if (!superblock || kpf_user_controls(superblock))
        return;
    key->inode = kpf_read_pointer(inode, KPF_BTF_INODE_I_INO);
    key->device = kpf_read_u32(superblock, KPF_BTF_SUPER_BLOCK_S_DEV);
    key->generation = kpf_read_u32(inode, KPF_BTF_INODE_I_GENERATION);
    key->ctime_seconds = kpf_read_pointer(inode, KPF_BTF_INODE_CTIME_SECONDS);
    key->ctime_nanoseconds = kpf_read_u32(inode, KPF_BTF_INODE_CTIME_NANOSECONDS) & 0x7fffffff;
}

static __always_inline int kpf_is_fuse(u64 file)
{
    u64 superblock = kpf_read_pointer(kpf_read_pointer(file, KPF_BTF_FILE_F_INODE), KPF_BTF_INODE_I_SB);

    return kpf_read_pointer(superblock, KPF_BTF_SUPER_BLOCK_S_MAGIC) == KPF_FUSE_MAGIC;
}

/* An AppImage says so in the padding of its ELF header: "AI" and its type. */
static __always_inline u32 kpf_is_appimage(u64 binary)
{
    u32 mark = kpf_read_u32(binary, KPF_BTF_LINUX_BINPRM_BUF + 8) & 0xffffff;

    return mark == ('A' | 'I' << 8 | 2 << 16) || mark == ('A' | 'I' << 8 | 1 << 16);
}

/*
 * What an AppImage executes from a FUSE mount, as a rule its own, is that AppImage. (Who makes it mount something
 * else, by its environment, has injected code into a program that is his own to start.)
 */
static __always_inline void kpf_identify_program(struct kpf_file *key, u64 file, const struct kpf_process *before)
{
    kpf_identify_file(key, file);
    if (!key->inode && before && before->appimage && kpf_is_fuse(file))
        *key = before->script.inode ? before->script : before->file;
}

static __always_inline int kpf_same_inode(const struct kpf_file *one, const struct kpf_file *other)
{
    return one->inode == other->inode && one->device == other->device && one->generation == other->generation;
}

/* When a process with this number, or one like it, last became another program. */
static __always_inline volatile u64 *kpf_became(u32 tgid)
{
    u32 at = tgid & (KPF_BECAME - 1);

    return became.lookup(&at);
}

/* Notes that a process is no more what it was: whoever knows its file by an earlier look, looks again. */
static __always_inline void kpf_becomes(u32 tgid)
{
    volatile u64 *last = kpf_became(tgid);

    if (last)
        *last = bpf_ktime_get_ns();
}

static __always_inline void kpf_remember_process(u32 tgid, struct kpf_process *process)
{
    if (processes.update(&tgid, process))
        kpf_count_default(KPF_DEFAULT_PROCESS_LOST);
    kpf_becomes(tgid);
}

static __always_inline void kpf_forget_process(u32 tgid)
{
    processes.delete(&tgid);
    kpf_becomes(tgid);
}

/*
 * Whether the calling process sees the files that the policy means: the home mount namespace, and its root. Not in a
 * user namespace of its own, whose threads could change the root while the file is opened.
 */
static __always_inline int kpf_is_at_home(void)
{
    u64 task = bpf_get_current_task();
    u64 owner = kpf_read_pointer(kpf_read_pointer(task, KPF_BTF_TASK_STRUCT_CRED), KPF_BTF_CRED_USER_NS);
    u64 namespaces = kpf_read_pointer(task, KPF_BTF_TASK_STRUCT_NSPROXY);
    u64 root = kpf_read_pointer(task, KPF_BTF_TASK_STRUCT_FS);
    u32 zero = 0;
    struct kpf_home *here = home.lookup(&zero);

    if (!here || !here->mount_namespace || !root || !owner || kpf_read_u32(owner, KPF_BTF_USER_NAMESPACE_LEVEL))
        return 0;
    return here->mount_namespace == kpf_read_pointer(namespaces, KPF_BTF_NSPROXY_MNT_NS) &&
           here->mount == kpf_read_pointer(root, KPF_BTF_FS_STRUCT_ROOT + KPF_BTF_PATH_MNT) &&
           here->dentry == kpf_read_pointer(root, KPF_BTF_FS_STRUCT_ROOT + KPF_BTF_PATH_DENTRY);
}

/* A path in the scratch buffer, the rest of it zero (it is a key), or NULL. */
static __always_inline struct kpf_path *kpf_read_path(u64 text)
{
    u32 zero = 0;
    struct kpf_path *path = scratch.lookup(&zero);

    if (!path)
        return NULL;
    __builtin_memset(path, 0, sizeof(*path));
    return bpf_probe_read_kernel_str(path->text, sizeof(path->text), (void *)text) > 0 ? path : NULL;
}

/*
 * The script of a process that is about to run an interpreter: by its file, if the kernel's check of it was seen;
 * else by its path, if that is absolute and read where the policy's paths are meant. Otherwise an unknown script.
 */
static __always_inline void kpf_identify_script(struct kpf_file *script, const struct kpf_path *path)
{
    u64 thread = bpf_get_current_pid_tgid();
    struct kpf_file *known = pending.lookup(&thread);
    int home = path && path->text[0] == '/' && kpf_is_at_home();

    if (!known && home)
        known = scripts.lookup((struct kpf_path *)path);
    if (known)
        *script = *known;
    if (!script->inode) {
        script->inode = bpf_ktime_get_ns();
        script->generation = home ? KPF_SCRIPT_AT_HOME : KPF_SCRIPT_ELSEWHERE;
    }
    pending.delete(&thread);
}

/* sched_process_exec(task, old pid, bprm): the process now is the file it executes, and no component. */
KPF_SOCKETS_PROGRAM kpf_exec(struct bpf_raw_tracepoint_args *ctx)
{
    u64 binary = ctx->args[2];
    u64 filename = kpf_read_pointer(binary, KPF_BTF_LINUX_BINPRM_FILENAME);
    u64 interpreter = kpf_read_pointer(binary, KPF_BTF_LINUX_BINPRM_INTERP);
    u32 tgid = bpf_get_current_pid_tgid() >> 32;
    struct kpf_process *before = processes.lookup(&tgid);
    struct kpf_process process = {};
    struct kpf_path *path;
    int known;

    kpf_identify_program(&process.file, kpf_read_pointer(binary, KPF_BTF_LINUX_BINPRM_FILE), before);
    kpf_forget(&process, sizeof(process));
    path = kpf_read_path(filename);
    if (filename != interpreter)
        kpf_identify_script(&process.script, path);
    else
        process.appimage = kpf_is_appimage(binary);
    kpf_forget(&process, sizeof(process));
    known = before && before->appimage &&
            kpf_same_inode(process.script.inode ? &process.script : &process.file,
                           before->script.inode ? &before->script : &before->file);
    process.appimage |= known;
    kpf_remember_process(tgid, &process);
    if (known)
        return 0; /* its path is the AppImage's, not that of what it executes */
    if (path && process.script.inode)
        paths.update(&process.script, path);
    else if (path && process.file.inode)
        paths.update(&process.file, path);
    return 0;
}

/*
 * The kernel's check of a file before it is executed (fentry or LSM security_bprm_check, where that loads): of a
 * script this is the only moment that has its file. The script comes first, then its interpreter.
 */
static __always_inline void kpf_check_file(u64 binary)
{
    u64 thread = bpf_get_current_pid_tgid();
    struct kpf_file key = {};
    u16 magic = 0;
    u32 tgid;

    if (kpf_read_pointer(binary, KPF_BTF_LINUX_BINPRM_FILENAME) !=
        kpf_read_pointer(binary, KPF_BTF_LINUX_BINPRM_INTERP))
        return; /* an interpreter */
    bpf_probe_read_kernel(&magic, sizeof(magic), (void *)(binary + KPF_BTF_LINUX_BINPRM_BUF));
    if (magic != ('#' | '!' << 8)) {
        pending.delete(&thread);
        return;
    }
    tgid = thread >> 32;
    kpf_identify_program(&key, kpf_read_pointer(binary, KPF_BTF_LINUX_BINPRM_FILE), processes.lookup(&tgid));
    pending.update(&thread, &key);
}

/* sched_process_fork(parent, child): a new process is its parent's program until it executes another. */
KPF_SOCKETS_PROGRAM kpf_fork(struct bpf_raw_tracepoint_args *ctx)
{
    u32 parent = kpf_read_u32(ctx->args[0], KPF_BTF_TASK_STRUCT_TGID);
    u32 child = kpf_read_u32(ctx->args[1], KPF_BTF_TASK_STRUCT_TGID);
    struct kpf_process *inherited;
    struct kpf_process process = {};

    if (parent == child)
        return 0; /* a thread */
    inherited = processes.lookup(&parent);
    if (!inherited) {
        kpf_forget_process(child); /* nobody's: not that of an earlier process of this number */
        return 0;
    }
    process = *inherited;
    kpf_remember_process(child, &process);
    return 0;
}

/* sched_process_exit(task): forgotten with the last thread. */
KPF_SOCKETS_PROGRAM kpf_exit(struct bpf_raw_tracepoint_args *ctx)
{
    u32 tgid = kpf_read_u32(ctx->args[0], KPF_BTF_TASK_STRUCT_TGID);
    u64 signal = kpf_read_pointer(ctx->args[0], KPF_BTF_TASK_STRUCT_SIGNAL);

    if (kpf_read_u32(signal, KPF_BTF_SIGNAL_STRUCT_LIVE) == 0)
        kpf_forget_process(tgid);
    return 0;
}

/* A process' file (or script) and component, as remembered; zero: unknown. */
static __always_inline void kpf_identify_process(u32 tgid, struct kpf_file *file, u8 *component)
{
    struct kpf_process *process = processes.lookup(&tgid);

    if (process) {
        *file = process->script.inode ? process->script : process->file;
        *component = process->component;
    } else {
        __builtin_memset(file, 0, sizeof(*file));
        *component = KPF_COMPONENT_NONE;
    }
}

/* Fills in the calling process: who it is, its pid, and its real uid. */
static __always_inline void kpf_identify_caller(struct kpf_file *file, u8 *component, u32 *pid, u32 *uid)
{
    *pid = bpf_get_current_pid_tgid() >> 32;
    *uid = (u32)bpf_get_current_uid_gid();
    kpf_identify_process(*pid, file, component);
}

/* The same for kinds of programs that may not ask for the pid (tc before 6.14 or so, setsockopt on 5.10). */
static __always_inline void kpf_identify_current(struct kpf_file *file, u8 *component, u32 *pid, u32 *uid)
{
    u64 task = bpf_get_current_task();

    *pid = kpf_read_u32(task, KPF_BTF_TASK_STRUCT_TGID);
    *uid = kpf_read_u32(kpf_read_pointer(task, KPF_BTF_TASK_STRUCT_CRED), KPF_BTF_CRED_UID);
    kpf_identify_process(*pid, file, component);
}

/* Makes the calling process the owner of a socket. */
static __always_inline void kpf_take_over(struct kpf_identity *who)
{
    who->version = KPF_ABI_VERSION;
    kpf_identify_caller(&who->application, &who->component, &who->pid, &who->uid);
}
