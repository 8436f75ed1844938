// SPDX-License-Identifier: Apache-2.0
#include "kernels/error.h"

namespace farsight {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
      return 64;
    case ErrorKind::data:
      return 65;
    case ErrorKind::environment:
      return 69;
    case ErrorKind::internal:
      return 70;
    case ErrorKind::io:
      return 74;
    case ErrorKind::diverged:
      return 76;
    case ErrorKind::config:
      return 78;
    case ErrorKind::stopped:
      return 85;
    case ErrorKind::watchdog:
      return 124;
    case ErrorKind::terminated:
      return 143;
  }
  return 70;
}

}  // namespace farsight
