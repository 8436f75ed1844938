// SPDX-License-Identifier: Apache-2.0
#include "data/series_table.h"

namespace farsight {

const char* to_string(ChannelRole role) {
  switch (role) {
    case ChannelRole::target:
      return "target";
    case ChannelRole::past:
      return "past";
    case ChannelRole::known_future:
      break;
  }
  return "known_future";
}

}  // namespace farsight
