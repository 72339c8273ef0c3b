/* Stub: BCC includes this before anything else; nothing here depends on the kernel's configuration. */
#define CONFIG_BPF_SYSCALL 1
