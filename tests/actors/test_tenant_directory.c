/* fakes: tenant_registry pg */
#include "actors/tenant_directory.h"
#include "tests/fakes/fake_tenant_registry.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static const char ids[2][CM_TENANT_ID_MAX] = {"1", "x2"};

static cm_status_t ask(cm_tenant_directory_t *directory, cm_tenant_state_t states[2],
                       cm_error_t *err)
{
    return cm_tenant_directory_states(directory, NULL, ids, 2, states, err);
}

Test(tenant_directory, an_active_tenant_is_asked_for_once)
{
    cm_tenant_directory_t *directory = cm_tenant_directory_new("client_manager");
    cm_tenant_state_t states[2];
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ACTIVE);
    cr_assert(eq(int, ask(directory, states, NULL), CM_OK));
    cr_assert(eq(int, ask(directory, states, NULL), CM_OK));
    cr_expect(eq(int, atomic_load(&fake_tenant_registry.queries), 1));
    cr_expect(eq(int, states[0], CM_TENANT_ACTIVE));
    cm_tenant_directory_destroy(&directory);
}

Test(tenant_directory, a_doubted_tenant_alone_is_asked_for_again)
{
    cm_tenant_directory_t *directory = cm_tenant_directory_new("client_manager");
    cm_tenant_state_t states[2];
    atomic_store(&fake_tenant_registry.state, CM_TENANT_ACTIVE);
    ask(directory, states, NULL);
    atomic_store(&fake_tenant_registry.state, CM_TENANT_DELETED);
    cm_tenant_directory_doubt(directory, "x2");
    cr_assert(eq(int, ask(directory, states, NULL), CM_OK));
    cr_expect(eq(int, atomic_load(&fake_tenant_registry.asked), 3));
    cr_expect(eq(int, states[0], CM_TENANT_ACTIVE));
    cr_expect(eq(int, states[1], CM_TENANT_DELETED));
    cm_tenant_directory_destroy(&directory);
}

Test(tenant_directory, a_registry_that_cannot_be_read_is_no_fault_of_a_message)
{
    static const struct {
        cm_status_t failure, status;
    } cases[] = {{CM_UNAVAILABLE, CM_UNAVAILABLE},
                 {CM_TRANSIENT, CM_UNAVAILABLE},
                 {CM_MISCONFIGURED, CM_MISCONFIGURED},
                 {CM_MISSING, CM_MISCONFIGURED},
                 {CM_PERMANENT, CM_MISCONFIGURED}};
    cm_tenant_directory_t *directory = cm_tenant_directory_new("client_manager");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cm_error_t err = {0};
        cm_tenant_state_t states[2];
        atomic_store(&fake_tenant_registry.failure, cases[i].failure);
        cr_expect(eq(int, ask(directory, states, &err), cases[i].status));
        cr_expect(eq(int, err.status, cases[i].status));
        cr_expect(strstr(err.message, "tenant registry: ") == err.message);
    }
    cm_tenant_directory_destroy(&directory);
}

Test(tenant_directory, a_failed_question_leaves_the_tenant_unknown)
{
    cm_tenant_directory_t *directory = cm_tenant_directory_new("client_manager");
    cm_tenant_state_t states[2];
    atomic_store(&fake_tenant_registry.failure, CM_UNAVAILABLE);
    ask(directory, states, NULL);
    atomic_store(&fake_tenant_registry.failure, CM_OK);
    atomic_store(&fake_tenant_registry.state, CM_TENANT_SUSPENDED);
    cr_assert(eq(int, ask(directory, states, NULL), CM_OK));
    cr_expect(eq(int, states[1], CM_TENANT_SUSPENDED));
    cm_tenant_directory_destroy(&directory);
}

Test(tenant_directory, parking_doubles_up_to_a_minute_until_a_write_goes_well)
{
    cm_tenant_directory_t *directory = cm_tenant_directory_new("client_manager");
    cr_expect(eq(int, cm_tenant_directory_park(directory, "1", 0), 1000));
    cr_expect(eq(int, cm_tenant_directory_park(directory, "1", 0), 2000));
    for (int i = 0; i < 10; i++)
        cm_tenant_directory_park(directory, "1", 0);
    cr_expect(eq(int, cm_tenant_directory_park(directory, "1", 0), 60000));
    cm_tenant_directory_unpark(directory, "1");
    cr_expect(eq(int, cm_tenant_directory_parked_ms(directory, "1", 0), 0));
    cr_expect(eq(int, cm_tenant_directory_park(directory, "1", 0), 1000));
    cm_tenant_directory_destroy(&directory);
}

Test(tenant_directory, a_parked_tenant_comes_free_at_its_time_and_no_other_is_touched)
{
    cm_tenant_directory_t *directory = cm_tenant_directory_new("client_manager");
    cm_tenant_directory_park(directory, "1", 5000);
    cr_expect(eq(int, cm_tenant_directory_parked_ms(directory, "1", 5400), 600));
    cr_expect(eq(int, cm_tenant_directory_parked_ms(directory, "2", 5400), 0));
    cr_expect(eq(sz, cm_tenant_directory_parked_count(directory, 5400), 1));
    cr_expect(eq(int, cm_tenant_directory_parked_ms(directory, "1", 6000), 0));
    cr_expect(eq(sz, cm_tenant_directory_parked_count(directory, 6000), 0));
    cr_expect(not(cm_tenant_directory_on_trial(directory, "1", 5999)));
    cr_expect(cm_tenant_directory_on_trial(directory, "1", 6000));
    cr_expect(not(cm_tenant_directory_on_trial(directory, "2", 6000)));
    cm_tenant_directory_unpark(directory, "1");
    cr_expect(not(cm_tenant_directory_on_trial(directory, "1", 6000)));
    cm_tenant_directory_destroy(&directory);
}
