/* Renewals and freezes on a machine that is ours: what happens when they are late, fail, or meet. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "frame.h"
#include "loop.h"
#include "machine.h"
#include "reap.h"
#include "talk.h"
#include "workload.h"

enum { ROUNDS_MAX = 400, ROUND_MS = 50 };

/* Shared with the children that freeze. */
static struct machine {
    volatile int frozen;
    volatile int syncs;
    volatile pid_t freezer;
} *machine;

static int gate[2]; /* a byte for every freeze that may be carried out */
static int renewals;
static bool renewable = true;
static int64_t number;
static struct json json;

void machine_mix_nonce(const uint8_t nonce[NONCE_SIZE])
{
    (void)nonce;
}

bool machine_configure(const struct config *config, char *text, size_t size)
{
    (void)config;
    (void)text;
    (void)size;
    return true;
}

bool machine_renew(const struct config *config, char *text, size_t size)
{
    (void)config;
    renewals++;
    check(machine->frozen == 0, "renew", "a frozen disk", "was not thawed first");
    snprintf(text, size, "it does not want to");
    return renewable;
}

bool machine_take_lease(int index, const struct lease *before, const struct lease *now, char *text, size_t size)
{
    (void)index;
    (void)before;
    (void)now;
    (void)text;
    (void)size;
    return true;
}

bool machine_set_clock(int64_t unix_ns)
{
    (void)unix_ns;
    return true;
}

void machine_sync(void)
{
    machine->syncs++;
}

bool machine_can_freeze(void)
{
    return true;
}

bool machine_freeze(void)
{
    char byte;
    machine->freezer = getpid();
    if (read(gate[0], &byte, 1) != 1)
        return false;
    machine->frozen = 1;
    return true;
}

bool machine_thaw(void)
{
    bool was = machine->frozen != 0;
    machine->frozen = 0;
    return was;
}

void machine_signal_all(int sent)
{
    workload_signal_group(sent);
}

_Noreturn void machine_power_off(void)
{
    exit(check_report("freezing"));
}

static void open_gate(void)
{
    if (write(gate[1], "x", 1) != 1)
        abort();
}

/* Let things happen until `holds`; far longer than they need. */
static void wait_until(bool (*holds)(void), const char *what)
{
    for (int i = 0; i < ROUNDS_MAX && !holds(); i++) {
        loop_step(ROUND_MS);
        talk_hear();
    }
    check(holds(), "freezing", what, "never came");
}

static bool is_thawed(void)
{
    return machine->frozen == 0;
}

static bool is_freezing(void)
{
    return machine->freezer != 0;
}

static int64_t awaited;

static bool is_answered(void)
{
    return talk_find(&json, awaited);
}

static int64_t ask(const char *members)
{
    uint8_t bytes[2048];
    int length = snprintf((char *)bytes + 4, sizeof bytes - 4, "{\"id\":%lld,%s}", (long long)++number, members);
    store_u32(bytes, (uint32_t)length);
    talk_send(bytes, (size_t)length + 4);
    return number;
}

/* `wanted` is ok as flatten writes it, or an error's code. */
static void expect(int64_t asked, const char *wanted, const char *name)
{
    awaited = asked;
    wait_until(is_answered, name);
    struct text text = {0};
    uint32_t ok = json_member(&json, 0, "ok");
    if (ok != 0)
        flatten(&json, ok, &text);
    const char *code = json_text(&json, json_member(&json, json_member(&json, 0, "error"), "code"));
    check(strcmp(ok != 0 ? text.bytes : code != NULL ? code : "", wanted) == 0, "freezing", name, ok != 0 ? text.bytes : code);
}

/* Ask again while what went before is still under way. */
static void expect_after(const char *members, const char *wanted, const char *name)
{
    for (int i = 0; i < ROUNDS_MAX; i++) {
        awaited = ask(members);
        wait_until(is_answered, name);
        const char *code = json_text(&json, json_member(&json, json_member(&json, 0, "error"), "code"));
        if (code == NULL || strcmp(code, "busy") != 0)
            break;
        loop_step(ROUND_MS);
    }
    expect(awaited, wanted, name);
}

/* {"frozen":true} and {"thawed":…} as flatten writes them. */
#define FROZEN "{'66726f7a656e':true}"
#define THAWED "{'746861776564':true}"
#define NOT_THAWED "{'746861776564':false}"

static void write_document(char *members, size_t size, const char *type, const char *hostname)
{
    char hex[129];
    memset(hex, 'a', sizeof hex - 1);
    hex[sizeof hex - 1] = '\0';
    snprintf(members, size,
             "\"type\":\"%s\",\"document\":\"{\\\"version\\\":1,\\\"channel_secret\\\":\\\"%.64s\\\",\\\"entropy\\\":\\\"%s\\\",\\\"unix_ns\\\":0,"
             "\\\"hostname\\\":\\\"%s\\\",\\\"machine_id\\\":\\\"%.32s\\\",\\\"root\\\":{\\\"writable\\\":\\\"disk\\\",\\\"disk\\\":\\\"data\\\"},"
             "\\\"workloads\\\":[{\\\"name\\\":\\\"main\\\",\\\"argv\\\":[\\\"/bin/sleep\\\",\\\"1000\\\"],\\\"user\\\":\\\"%u:%u\\\"}]}\"",
             type, hex, hex, hostname, hex, (unsigned)getuid(), (unsigned)getgid());
}

static void test_freeze_and_thaw(void)
{
    expect(ask("\"type\":\"thaw\""), NOT_THAWED, "nothing to thaw");
    open_gate();
    expect(ask("\"type\":\"freeze\",\"timeout_ms\":60000"), FROZEN, "freeze");
    check(machine->frozen == 1 && machine->syncs == 1, "freezing", "freeze", "not synced and frozen");
    expect(ask("\"type\":\"freeze\",\"timeout_ms\":60000"), FROZEN, "freeze again");
    expect(ask("\"type\":\"thaw\""), THAWED, "thaw");
    check(machine->frozen == 0, "freezing", "thaw", "still frozen");
    expect(ask("\"type\":\"thaw\""), NOT_THAWED, "thaw again");
    expect(ask("\"type\":\"sync\""), "{}", "sync");
    check(machine->syncs == 2, "freezing", "sync", "not synced");
}

static void test_thaws_by_itself(void)
{
    open_gate();
    expect(ask("\"type\":\"freeze\",\"timeout_ms\":60000"), FROZEN, "freeze for long");
    expect(ask("\"type\":\"freeze\",\"timeout_ms\":1"), FROZEN, "the time begins anew");
    wait_until(is_thawed, "its time is over");
    expect(ask("\"type\":\"thaw\""), NOT_THAWED, "thaw too late");
}

static void test_late_freeze(void)
{
    machine->freezer = 0;
    int64_t first = ask("\"type\":\"freeze\",\"timeout_ms\":1");
    wait_until(is_freezing, "freezing begins");
    expect(first, "failed", "not done in time");
    expect(ask("\"type\":\"freeze\",\"timeout_ms\":1000"), "busy", "another while one is under way");
    open_gate();
    open_gate(); /* for the next one, which comes when the first was undone */
    expect_after("\"type\":\"freeze\",\"timeout_ms\":60000", FROZEN, "after a late one");
    check(machine->frozen == 1, "freezing", "after a late one", "not frozen");
    expect(ask("\"type\":\"thaw\""), THAWED, "thaw");
}

static void test_killed_freeze(void)
{
    machine->freezer = 0;
    int64_t first = ask("\"type\":\"freeze\",\"timeout_ms\":60000");
    wait_until(is_freezing, "freezing begins");
    machine->frozen = 1; /* as if it had just been done */
    kill(machine->freezer, SIGKILL);
    expect(first, "failed", "the child was killed");
    check(machine->frozen == 0, "freezing", "the child was killed", "left frozen");
}

static void test_lost_session(void)
{
    machine->freezer = 0;
    int64_t lost = ask("\"type\":\"freeze\",\"timeout_ms\":60000");
    wait_until(is_freezing, "freezing begins");
    talk_end();
    talk_begin();
    open_gate();
    expect_after("\"type\":\"freeze\",\"timeout_ms\":60000", FROZEN, "what another session froze");
    check(!talk_find(&json, lost), "freezing", "a lost session", "its answer came to another");
    expect(ask("\"type\":\"thaw\""), THAWED, "thaw");
}

static void test_renew(void)
{
    static char members[1500];
    write_document(members, sizeof members, "configure", "one");
    expect(ask(members), "{}", "configure");
    write_document(members, sizeof members, "renew", "one");
    for (int i = 0; i < ROUNDS_MAX && !workload_is_running(); i++)
        loop_step(ROUND_MS);
    expect(ask(members), "{}", "the same document");
    check(renewals == 0, "renew", "the same document", "was carried out");
    open_gate();
    expect(ask("\"type\":\"freeze\",\"timeout_ms\":60000"), FROZEN, "freeze");
    write_document(members, sizeof members, "renew", "two");
    expect(ask(members), "{}", "renew while frozen");
    check(renewals == 1 && machine->frozen == 0, "renew", "renew while frozen", "still frozen");
    expect(ask("\"type\":\"thaw\""), NOT_THAWED, "it was thawed");
}

static void test_failing_renew(void)
{
    static char members[1500];
    renewable = false;
    write_document(members, sizeof members, "renew", "three");
    expect(ask(members), "failed", "a renewal that fails");
    renewable = true;
    write_document(members, sizeof members, "configure", "two");
    expect(ask(members), "{}", "the document before it holds");
    int before = renewals;
    write_document(members, sizeof members, "renew", "two");
    expect(ask(members), "{}", "back to it");
    check(renewals == before + 1, "renew", "back to it", "not carried out, though what is in force is torn");
    expect(ask(members), "{}", "back to it again");
    check(renewals == before + 1, "renew", "back to it again", "carried out again");
}

static void test_renew_under_freeze(void)
{
    static char members[1500];
    machine->freezer = 0;
    int64_t first = ask("\"type\":\"freeze\",\"timeout_ms\":60000");
    wait_until(is_freezing, "freezing begins");
    write_document(members, sizeof members, "renew", "four");
    int before = renewals;
    expect(ask(members), "busy", "renew while freezing");
    expect(first, "failed", "freeze given up");
    check(renewals == before, "renew", "renew while freezing", "carried out");
    open_gate();
    expect_after(members, "{}", "renew after all");
    check(renewals == before + 1 && machine->frozen == 0, "renew", "after the freeze was given up", "not carried out");
}

static void test_shutdown(void)
{
    open_gate();
    expect(ask("\"type\":\"freeze\",\"timeout_ms\":60000"), FROZEN, "freeze");
    expect(ask("\"type\":\"shutdown\",\"grace_ms\":1000"), "{}", "shutdown");
    check(machine->frozen == 0, "freezing", "shutdown", "still frozen");
    expect(ask("\"type\":\"freeze\",\"timeout_ms\":60000"), "failed", "freeze while stopping");
    expect(ask("\"type\":\"sync\""), "failed", "sync while stopping");
}

int main(void)
{
    machine = mmap(NULL, sizeof *machine, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (machine == MAP_FAILED || pipe2(gate, O_CLOEXEC) != 0)
        return 1;
    loop_open();
    if (!reap_open())
        return 1;
    talk_begin();
    test_freeze_and_thaw();
    test_thaws_by_itself();
    test_late_freeze();
    test_killed_freeze();
    test_lost_session();
    test_renew();
    test_failing_renew();
    test_renew_under_freeze();
    test_shutdown();
    for (int i = 0; i < ROUNDS_MAX; i++)
        loop_step(ROUND_MS); /* until the workload has ended and the machine is off */
    check(false, "freezing", "shutdown", "the machine never went off");
    return check_report("freezing");
}
