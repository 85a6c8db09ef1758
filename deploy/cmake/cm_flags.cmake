# Warnings, hardening (OpenSSF compiler guide as far as gcc 12 and clang 14 take it) and sanitizers,
# as one interface library that every target of the project links.
include(CheckCCompilerFlag)
add_library(cm_flags INTERFACE)
target_include_directories(cm_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(cm_flags INTERFACE _GNU_SOURCE CM_VERSION="${PROJECT_VERSION}")
target_compile_options(cm_flags INTERFACE
  -Wall -Wextra -Wformat=2 -Wconversion -Wno-sign-conversion -Wimplicit-fallthrough -Wshadow
  -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -Werror=format-security -Werror=implicit -Werror=incompatible-pointer-types
  -Werror=int-conversion
  -fno-delete-null-pointer-checks -fno-strict-overflow -fno-strict-aliasing -fexceptions
  -ffile-prefix-map=${PROJECT_SOURCE_DIR}=.)
if(CM_WERROR)
  target_compile_options(cm_flags INTERFACE -Werror)
endif()
if(CM_CRASH_POINTS)
  target_compile_definitions(cm_flags INTERFACE CM_CRASH_POINTS)
endif()

if(CM_FUZZ) # the code under test must report its coverage, or the fuzzer is blind
  target_compile_options(cm_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

if(CM_SANITIZE STREQUAL "address")
  set(cm_sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined
                  -fno-omit-frame-pointer)
elseif(CM_SANITIZE STREQUAL "thread")
  set(cm_sanitize -fsanitize=thread -fno-omit-frame-pointer)
elseif(CM_SANITIZE)
  message(FATAL_ERROR "CM_SANITIZE is '${CM_SANITIZE}'; it must be address, thread or empty")
endif()
if(CM_SANITIZE)
  target_compile_options(cm_flags INTERFACE ${cm_sanitize})
  target_link_options(cm_flags INTERFACE ${cm_sanitize})
else()
  target_compile_options(cm_flags INTERFACE
    -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection)
  foreach(flag -fcf-protection=full -ftrivial-auto-var-init=zero -fzero-call-used-regs=used-gpr
               -Wtrampolines -Wbidi-chars=any)
    string(MAKE_C_IDENTIFIER "cm_has${flag}" has)
    check_c_compiler_flag(${flag} ${has})
    if(${has})
      target_compile_options(cm_flags INTERFACE ${flag})
    endif()
  endforeach()
  target_link_options(cm_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed)
endif()
set(CMAKE_EXE_LINKER_FLAGS "${CMAKE_EXE_LINKER_FLAGS} -pie")
