# SPDX-License-Identifier: Apache-2.0
# cmake -DSOURCE=DIR -DOUTPUT=FILE -P commit.cmake: writes the commit of the sources as a C++ header, and touches the
# file only when it changes. Sources without version control give "unknown".
find_program(GIT git)
set(COMMIT "unknown")
if(GIT)
  execute_process(COMMAND ${GIT} --no-optional-locks -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
                  OUTPUT_VARIABLE FOUND RESULT_VARIABLE CODE ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(CODE EQUAL 0 AND FOUND)
    set(COMMIT "${FOUND}")
  endif()
endif()
set(TEXT "#define FARSIGHT_COMMIT \"${COMMIT}\"\n")
set(BEFORE "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} BEFORE)
endif()
if(NOT TEXT STREQUAL BEFORE)
  file(WRITE ${OUTPUT} "${TEXT}")
endif()
