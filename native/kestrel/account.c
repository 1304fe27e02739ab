#include "account.h"

#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 256 };

static bool read_id(const char *text, uint32_t *id)
{
    size_t digits = strlen(text);
    if (digits == 0 || digits > 10 || strspn(text, "0123456789") != digits)
        return false;
    unsigned long long value = strtoull(text, NULL, 10);
    *id = (uint32_t)value;
    return value < UINT32_MAX;
}

/* A name is looked for first, even when it is a number, as container runtimes do. */
static bool find_user(const char *user, struct account *account, char name[NAME_SIZE])
{
    uint32_t id = 0;
    bool numeric = read_id(user, &id);
    bool found = false;
    FILE *file = fopen("/etc/passwd", "re");
    if (file != NULL) {
        for (struct passwd *entry = fgetpwent(file); entry != NULL && !found; entry = fgetpwent(file)) {
            if (strcmp(entry->pw_name, user) != 0 && !(numeric && entry->pw_uid == id))
                continue;
            found = true;
            account->uid = entry->pw_uid;
            account->gid = entry->pw_gid;
            snprintf(account->home, sizeof account->home, "%s", entry->pw_dir);
            snprintf(name, NAME_SIZE, "%s", entry->pw_name);
        }
        fclose(file);
    }
    if (!found && numeric)
        account->uid = id;
    return found || numeric;
}

static bool find_group(const char *group, gid_t *gid)
{
    uint32_t id = 0;
    if (read_id(group, &id)) {
        *gid = id;
        return true;
    }
    bool found = false;
    FILE *file = fopen("/etc/group", "re");
    if (file == NULL)
        return false;
    for (struct group *entry = fgetgrent(file); entry != NULL && !found; entry = fgetgrent(file)) {
        if (strcmp(entry->gr_name, group) == 0) {
            *gid = entry->gr_gid;
            found = true;
        }
    }
    fclose(file);
    return found;
}

static void collect_groups(const char *name, struct account *account)
{
    FILE *file = fopen("/etc/group", "re");
    if (file == NULL)
        return;
    for (struct group *entry = fgetgrent(file); entry != NULL; entry = fgetgrent(file))
        for (char **member = entry->gr_mem; *member != NULL; member++)
            if (strcmp(*member, name) == 0 && account->group_count < GROUPS_MAX)
                account->groups[account->group_count++] = entry->gr_gid;
    fclose(file);
}

bool account_resolve(const char *user, struct account *account)
{
    memset(account, 0, sizeof *account);
    strcpy(account->home, "/");
    char first[NAME_SIZE], name[NAME_SIZE] = "";
    if ((size_t)snprintf(first, sizeof first, "%s", *user == '\0' ? "0" : user) >= sizeof first)
        return false;
    char *group = strchr(first, ':');
    if (group != NULL)
        *group++ = '\0';
    if (!find_user(first[0] == '\0' ? "0" : first, account, name))
        return false;
    if (group != NULL && *group != '\0')
        return find_group(group, &account->gid);
    if (name[0] != '\0')
        collect_groups(name, account);
    return true;
}
