# cm_layer(name globs deps...): the static library cm_<name> of one folder. main.c is the program's.
function(cm_layer name globs)
  file(GLOB sources CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${globs})
  list(REMOVE_ITEM sources actors/main.c)
  if(NOT sources)
    add_library(cm_${name} INTERFACE)
    target_link_libraries(cm_${name} INTERFACE cm_flags ${ARGN})
    return()
  endif()
  add_library(cm_${name} STATIC ${sources})
  target_link_libraries(cm_${name} PUBLIC cm_flags ${ARGN})
endfunction()

# The SQL files of schema/admin and schema/tenant as C arrays (schema/migration.h).
function(cm_embed_migrations target)
  file(GLOB sql CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/schema/admin/*.sql
       ${PROJECT_SOURCE_DIR}/schema/tenant/*.sql)
  if(NOT sql)
    return()
  endif()
  set(generated ${PROJECT_BINARY_DIR}/generated/migrations.c)
  add_custom_command(OUTPUT ${generated}
    COMMAND ${CMAKE_COMMAND} -D ROOT=${PROJECT_SOURCE_DIR}/schema -D OUT=${generated}
            -P ${PROJECT_SOURCE_DIR}/deploy/cmake/embed_migrations.cmake
    DEPENDS ${sql} ${PROJECT_SOURCE_DIR}/deploy/cmake/embed_migrations.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${generated})
endfunction()

# The verdict table proto/push_verdicts.csv as a C array (proto/push_verdict.h).
function(cm_embed_push_verdicts target)
  set(csv ${PROJECT_SOURCE_DIR}/proto/push_verdicts.csv)
  set(generated ${PROJECT_BINARY_DIR}/generated/push_verdicts.c)
  add_custom_command(OUTPUT ${generated}
    COMMAND ${CMAKE_COMMAND} -D CSV=${csv} -D OUT=${generated}
            -P ${PROJECT_SOURCE_DIR}/deploy/cmake/embed_push_verdicts.cmake
    DEPENDS ${csv} ${PROJECT_SOURCE_DIR}/deploy/cmake/embed_push_verdicts.cmake
    VERBATIM)
  target_sources(${target} PRIVATE ${generated})
endfunction()
