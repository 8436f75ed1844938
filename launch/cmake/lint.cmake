# SPDX-License-Identifier: Apache-2.0
# cmake --build --preset dev -t format | format-check | tidy
foreach(task format format-check tidy)
  set(arguments ${task})
  if(task STREQUAL "tidy")
    list(APPEND arguments ${CMAKE_BINARY_DIR})
  endif()
  add_custom_target(${task} COMMAND ${CMAKE_SOURCE_DIR}/launch/lint ${arguments}
                    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} USES_TERMINAL VERBATIM)
endforeach()
