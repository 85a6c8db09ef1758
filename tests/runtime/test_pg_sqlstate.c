#include "runtime/cleanup.h"
#include "runtime/pg.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

typedef struct {
    const char *sqlstate;
    cm_status_t status;
    bool quick, known;
} row_t;

static const row_t rows[] = {
    {"", CM_UNAVAILABLE, false, true},        {"08000", CM_UNAVAILABLE, false, true},
    {"08006", CM_UNAVAILABLE, false, true},   {"08P01", CM_UNAVAILABLE, false, true},
    {"53000", CM_UNAVAILABLE, false, true},   {"53100", CM_UNAVAILABLE, false, true},
    {"53200", CM_TRANSIENT, false, true},     {"53300", CM_UNAVAILABLE, false, true},
    {"53400", CM_UNAVAILABLE, false, true},   {"57P01", CM_UNAVAILABLE, false, true},
    {"57P02", CM_UNAVAILABLE, false, true},   {"57P03", CM_UNAVAILABLE, false, true},
    {"57P05", CM_UNAVAILABLE, false, true},   {"57P04", CM_MISCONFIGURED, false, true},
    {"3D000", CM_MISCONFIGURED, false, true}, {"57014", CM_TRANSIENT, false, true},
    {"58000", CM_UNAVAILABLE, false, true},   {"58030", CM_UNAVAILABLE, false, true},
    {"58P01", CM_UNAVAILABLE, false, true},   {"XX000", CM_TRANSIENT, true, true},
    {"XX001", CM_UNAVAILABLE, false, true},   {"XX002", CM_UNAVAILABLE, false, true},
    {"40001", CM_TRANSIENT, true, true},      {"40P01", CM_TRANSIENT, true, true},
    {"40003", CM_UNAVAILABLE, false, true},   {"55P03", CM_TRANSIENT, false, true},
    {"55006", CM_TRANSIENT, false, true},     {"25006", CM_UNAVAILABLE, false, true},
    {"25P02", CM_TRANSIENT, false, true},     {"25001", CM_TRANSIENT, false, true},
    {"25P01", CM_TRANSIENT, false, true},     {"25P03", CM_TRANSIENT, false, true},
    {"42P01", CM_MISSING, false, true},       {"3F000", CM_MISSING, false, true},
    {"42P06", CM_TRANSIENT, true, true},      {"42P07", CM_TRANSIENT, true, true},
    {"42710", CM_TRANSIENT, true, true},      {"42701", CM_TRANSIENT, true, true},
    {"42703", CM_MISCONFIGURED, false, true}, {"42804", CM_MISCONFIGURED, false, true},
    {"42883", CM_MISCONFIGURED, false, true}, {"42601", CM_MISCONFIGURED, false, true},
    {"42P10", CM_MISCONFIGURED, false, true}, {"42501", CM_MISCONFIGURED, false, true},
    {"28000", CM_MISCONFIGURED, false, true}, {"28P01", CM_MISCONFIGURED, false, true},
    {"23502", CM_PERMANENT, false, true},     {"23503", CM_PERMANENT, false, true},
    {"23505", CM_PERMANENT, false, true},     {"23514", CM_PERMANENT, false, true},
    {"23P01", CM_PERMANENT, false, true},     {"22001", CM_PERMANENT, false, true},
    {"22003", CM_PERMANENT, false, true},     {"22007", CM_PERMANENT, false, true},
    {"22008", CM_PERMANENT, false, true},     {"22021", CM_PERMANENT, false, true},
    {"22023", CM_PERMANENT, false, true},     {"22P02", CM_PERMANENT, false, true},
    {"22P05", CM_PERMANENT, false, true},     {"21000", CM_PERMANENT, false, true},
    {"54000", CM_PERMANENT, false, true},     {"54001", CM_PERMANENT, false, true},
    {"0A000", CM_TRANSIENT, true, true},      {"26000", CM_TRANSIENT, true, true},
    {"34000", CM_TRANSIENT, true, true},      {"P0001", CM_PERMANENT, false, true},
    {"38000", CM_PERMANENT, false, true},     {"38003", CM_PERMANENT, false, true},
    {"44000", CM_PERMANENT, false, true},     {"55000", CM_TRANSIENT, false, false},
    {"P0002", CM_TRANSIENT, false, false},    {"ZZ999", CM_TRANSIENT, false, false},
};

Test(pg_sqlstate, each_line_of_the_table_has_its_class)
{
    for (size_t i = 0; i < CM_LENGTH(rows); i++) {
        bool known = !rows[i].known;
        cm_status_t status = cm_pg_classify(rows[i].sqlstate, &known);
        cr_expect(eq(int, status, rows[i].status), "%s", rows[i].sqlstate);
        cr_expect(eq(int, known, rows[i].known), "%s", rows[i].sqlstate);
        cr_expect(eq(int, cm_pg_is_quick_retry(rows[i].sqlstate), rows[i].quick), "%s",
                  rows[i].sqlstate);
    }
}

/* What may be of one tenant or row among many, and what is of the connection. */
Test(pg_sqlstate, a_failure_of_some_rows_or_tables_can_be_isolated)
{
    static const char *const of_some[] = {"23514", "22021", "40P01", "55P03", "57014", "42P01",
                                          "3F000", "42703", "42804", "XX000", "XX001", "XX002"};
    static const char *const of_all[] = {"",      "08006", "42501", "28P01", "3D000", "25006",
                                         "53100", "57P01", "57P04", "58030", "40003"};
    for (size_t i = 0; i < CM_LENGTH(of_some); i++) {
        cm_error_t err = {0};
        cm_error_set(&err, cm_pg_classify(of_some[i], NULL), of_some[i], "test");
        cr_expect(cm_pg_is_isolable(&err), "%s", of_some[i]);
    }
    for (size_t i = 0; i < CM_LENGTH(of_all); i++) {
        cm_error_t err = {0};
        cm_error_set(&err, cm_pg_classify(of_all[i], NULL), of_all[i], "test");
        cr_expect(not(cm_pg_is_isolable(&err)), "%s", of_all[i]);
    }
    cr_expect(not(cm_pg_is_isolable(&(cm_error_t){.status = CM_CANCELLED})));
    cr_expect(not(cm_pg_is_isolable(&(cm_error_t){.status = CM_OK})));
}

Test(pg_sqlstate, whether_it_is_known_need_not_be_asked)
{
    cr_expect(eq(int, cm_pg_classify("40P01", NULL), CM_TRANSIENT));
}
