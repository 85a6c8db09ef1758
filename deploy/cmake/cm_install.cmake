# Installation: program, systemd unit, configuration, man page, completion, documents.
#     cmake --install build/release [--prefix DIR]        DESTDIR is honoured
include(GNUInstallDirs)
install(TARGETS client-manager RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES ${PROJECT_SOURCE_DIR}/deploy/client-manager.service DESTINATION lib/systemd/system)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md
              ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/deploy/client-manager.yaml
        DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/deploy/grafana
        DESTINATION ${CMAKE_INSTALL_DATADIR}/client-manager)

# The configuration is the administrator's once it is there. It stands in /etc for a system prefix.
install(CODE "set(source \"${PROJECT_SOURCE_DIR}/deploy/client-manager.yaml\")")
install(CODE [[
  if(CMAKE_INSTALL_PREFIX MATCHES "^/usr(/local)?/?$")
    set(etc /etc/client-manager)
  else()
    set(etc ${CMAKE_INSTALL_PREFIX}/etc/client-manager)
  endif()
  if(EXISTS "$ENV{DESTDIR}${etc}/client-manager.yaml")
    message(STATUS "Kept: $ENV{DESTDIR}${etc}/client-manager.yaml")
  else()
    file(INSTALL DESTINATION ${etc} TYPE FILE FILES ${source})
  endif()
]])

# The program writes its own man page and completion, from the table that its help comes from.
set(cm_man ${PROJECT_BINARY_DIR}/generated/man/client-manager.1)
set(cm_completion ${PROJECT_BINARY_DIR}/generated/completion/client-manager)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/generated/man ${PROJECT_BINARY_DIR}/generated/completion)
foreach(topic man completion)
  add_custom_command(OUTPUT ${cm_${topic}}
                     COMMAND client-manager help ${topic} > ${cm_${topic}}
                     DEPENDS client-manager VERBATIM)
endforeach()
add_custom_target(cm_generated ALL DEPENDS ${cm_man} ${cm_completion})
# OPTIONAL: building the target client-manager alone, as deploy/demo does, leaves them out.
install(FILES ${cm_man} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)
install(FILES ${cm_completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        OPTIONAL)
