// SPDX-License-Identifier: Apache-2.0
// What stands between the cells of a table: comma, semicolon or tab.
#pragma once

#include <string>
#include <string_view>

namespace farsight {

// The one that stands equally often, outside quotes, in each of the first lines of `beginning`; ',' where none stands
// in the first line. `whole`: the text does not go on behind it. A comma that is
// the `decimal` mark gives way to any other. Error{data} when two fit, with what to pass.
char find_csv_delimiter(const std::string& name, std::string_view beginning, bool whole, char decimal);

}  // namespace farsight
