# SPDX-License-Identifier: Apache-2.0
# One list of compile options for every target of ours (farsight_options) and its sanitizer variants.
add_library(farsight_options INTERFACE)
target_compile_features(farsight_options INTERFACE cxx_std_20)
target_include_directories(farsight_options INTERFACE $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>)
# For our own targets only: an installed library imposes none of these on who uses it.
set(FARSIGHT_COMPILE_OPTIONS
  -Wall -Wextra -Wconversion
  # g++ fuses a*b+c into FMA where it inlines: results would depend on inlining. MulAdd is written where it is meant.
  -ffp-contract=off
  $<$<BOOL:${FARSIGHT_WERROR}>:-Werror>)
target_compile_options(farsight_options INTERFACE "$<BUILD_INTERFACE:${FARSIGHT_COMPILE_OPTIONS}>")
if(FARSIGHT_SANITIZE STREQUAL "address")
  # What AddressSanitizer sees as well is left to it: these checks are a quarter of the compile time.
  target_compile_options(farsight_options INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
    -fno-sanitize=null,object-size,vptr,nonnull-attribute,returns-nonnull-attribute)
  target_link_options(farsight_options INTERFACE -fsanitize=address,undefined)
elseif(FARSIGHT_SANITIZE STREQUAL "thread")
  target_compile_options(farsight_options INTERFACE -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(farsight_options INTERFACE -fsanitize=thread)
elseif(NOT FARSIGHT_SANITIZE STREQUAL "none")
  message(FATAL_ERROR "FARSIGHT_SANITIZE is '${FARSIGHT_SANITIZE}'; use none, address or thread")
endif()

# Sanitizer defaults that an executable must carry (empty without sanitizers), in two kinds.
add_library(farsight_sanitizer_defaults OBJECT ${CMAKE_SOURCE_DIR}/tests/sanitizer_defaults.cc)
add_library(farsight_sanitizer_defaults_slow_unwinder OBJECT ${CMAKE_SOURCE_DIR}/tests/sanitizer_defaults.cc)
target_compile_definitions(farsight_sanitizer_defaults_slow_unwinder PRIVATE FARSIGHT_SLOW_UNWINDER)
foreach(kind farsight_sanitizer_defaults farsight_sanitizer_defaults_slow_unwinder)
  target_link_libraries(${kind} PRIVATE farsight_options)
endforeach()
