// SPDX-License-Identifier: Apache-2.0
#include "data/series_columns.h"

#include <algorithm>
#include <map>

#include "data/csv_number.h"
#include "data/date_column.h"
#include "data/problems.h"
#include "data/utf8.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr const char* kTimeNames[] = {"date", "time", "timestamp", "ds", "datetime"};
constexpr size_t kNamesShown = 20;

std::string with_valid_utf8(std::string_view text) {
  std::string valid;
  while (true) {
    const size_t good = valid_utf8_prefix(text);
    valid += text.substr(0, good);
    if (good == text.size()) return valid;
    text.remove_prefix(good);
    valid += "\xEF\xBF\xBD";
    text.remove_prefix(decode_character(text).length);
  }
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

std::string unnamed(size_t i) { return fmt::format("column {}", i + 1); }

std::string list(const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kNamesShown);
  const std::string text =
      fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<ptrdiff_t>(shown), ", "));
  return shown == names.size() ? text : fmt::format("{}, ... {} more", text, names.size() - shown);
}

bool is_time_name(const std::string& name) {
  return std::find(std::begin(kTimeNames), std::end(kTimeNames), lower(name)) != std::end(kTimeNames);
}

// Which option says what a column is.
class Assignment {
 public:
  Assignment(const SeriesCsvOptions& options, const std::string& file, std::vector<std::string> names)
      : options_(options), file_(file), names_(std::move(names)), used_(names_.size(), nullptr) {}

  SeriesColumns run(const CsvReader& first, bool has_first) {
    SeriesColumns columns;
    if (!options_.series.empty()) columns.series = claim("--series", options_.series);
    for (const std::string& name : options_.drop) claim("--drop", name);
    columns.statics = claim_all("--static", options_.statics);
    const std::vector<size_t> targets = claim_all("--targets", options_.targets);
    const std::vector<size_t> past = claim_all("--past", options_.past);
    const std::vector<size_t> known = claim_all("--known-future", options_.known_future);
    // An explicit name is claimed with the others, so that all that is wrong with them is reported.
    if (!options_.time.empty()) columns.time = claim("--time", options_.time).value_or(0);
    problems_.throw_if_any();
    if (options_.time.empty()) columns.time = find_time(first, has_first);
    const ChannelRole rest = targets.empty() ? ChannelRole::target : ChannelRole::past;
    std::vector<ChannelRole> roles(names_.size(), rest);
    for (const size_t i : targets) roles[i] = ChannelRole::target;
    for (const size_t i : past) roles[i] = ChannelRole::past;
    for (const size_t i : known) roles[i] = ChannelRole::known_future;
    collect_channels(columns, roles);
    set_units(columns);
    problems_.throw_if_any();
    columns.names = std::move(names_);
    return columns;
  }

 private:
  // A header with invalid bytes can be named with them or with what stands for them.
  std::optional<size_t> find(const std::string& name) const {
    const auto found = std::find(names_.begin(), names_.end(), with_valid_utf8(trimmed(name)));
    return found == names_.end() ? std::nullopt : std::optional(static_cast<size_t>(found - names_.begin()));
  }

  void add_absent(const char* option, const std::string& name) {
    problems_.add("names of columns",
                  fmt::format("{}:1: no column '{}' (has: {}); see {}", file_, name, list(names_), option));
  }

  std::optional<size_t> claim(const char* option, const std::string& name) {
    const std::optional<size_t> found = find(name);
    if (!found) {
      add_absent(option, name);
      return std::nullopt;
    }
    const char*& user = used_[*found];
    if (user != nullptr) {
      fail(ErrorKind::usage, "column '{}' is named by {} and {}: a column has one meaning", name, user, option);
    }
    user = option;
    return found;
  }

  std::vector<size_t> claim_all(const char* option, const std::vector<std::string>& names) {
    std::vector<size_t> columns;
    for (const std::string& name : names) {
      if (const std::optional<size_t> column = claim(option, name)) columns.push_back(*column);
    }
    std::sort(columns.begin(), columns.end());
    return columns;
  }

  size_t find_time(const CsvReader& first, bool has_first) {
    std::vector<std::string> found;
    size_t at = 0;
    for (size_t i = 0; i < names_.size(); ++i) {
      if (used_[i] != nullptr || !is_time_name(names_[i])) continue;
      found.push_back(names_[i]);
      at = i;
    }
    if (found.size() > 1) {
      fail(ErrorKind::data,
           "{}:1: {} columns could be the time: {}; say which with --time and leave out the others with "
           "--drop (date and time of day in two columns have to be joined into one)",
           file_, found.size(), list(found));
    }
    if (found.empty()) at = first_column_of_dates(first, has_first);
    used_[at] = "--time";
    return at;
  }

  size_t first_column_of_dates(const CsvReader& first, bool has_first) const {
    const std::string cell = has_first ? std::string(first.cell(0)) : "";
    const bool dates = options_.date_format.empty() ? is_plain_date(cell)
                                                    : DateFormat::parse(options_.date_format).read(cell).has_value();
    if (used_[0] == nullptr && dates) return 0;
    fail(ErrorKind::data,
         "{}:1: no column 'date' (has: {}): none is called date, time, timestamp, ds or datetime, and the first one "
         "does "
         "not begin with a date ('{}'); pass --time=COLUMN",
         file_, list(names_), cell);
  }

  void collect_channels(SeriesColumns& columns, const std::vector<ChannelRole>& roles) {
    bool target = false;
    for (size_t i = 0; i < names_.size(); ++i) {
      const std::string_view user = used_[i] == nullptr ? "" : used_[i];
      if (user == "--time" || user == "--series" || user == "--drop" || user == "--static") continue;
      if (user.empty() && names_[i] == unnamed(i)) add_unnamed(i);
      columns.channels.push_back(i);
      columns.roles.push_back({.name = names_[i], .unit = "", .role = roles[i]});
      target |= roles[i] == ChannelRole::target;
    }
    if (target) return;
    problems_.add("targets", fmt::format("{}:1: no channel is left to forecast (has: {}); name one with --targets",
                                         file_, list(names_)));
  }

  void add_unnamed(size_t i) {
    problems_.add("columns without a name",
                  fmt::format("{0}:1:{1}: column {1} has no name; leave it out with --drop='{2}', or use that name in "
                              "another option",
                              file_, i + 1, unnamed(i)));
  }

  void set_units(SeriesColumns& columns) {
    for (const std::string& unit : options_.units) {
      const size_t equal = unit.rfind('=');  // names may hold one, units do not
      if (equal == std::string::npos) fail(ErrorKind::usage, "--unit={}: write CHANNEL=UNIT", unit);
      const std::optional<size_t> column = find(unit.substr(0, equal));
      const auto channel = std::find(columns.channels.begin(), columns.channels.end(), column.value_or(names_.size()));
      if (channel == columns.channels.end()) {
        add_absent("--unit", unit.substr(0, equal));
        continue;
      }
      columns.roles[static_cast<size_t>(channel - columns.channels.begin())].unit = unit.substr(equal + 1);
    }
  }

  const SeriesCsvOptions& options_;
  const std::string& file_;
  std::vector<std::string> names_;
  std::vector<const char*> used_;  // the option that names each column
  Problems problems_;
};

}  // namespace

std::vector<std::string> read_header(CsvReader& reader, std::vector<std::string>& warnings) {
  bool found = reader.next();
  while (found && reader.blank()) found = reader.next();
  if (!found)
    fail(ErrorKind::data, "{}: the file is empty; a header with the names of the columns is needed", reader.name());
  std::vector<std::string> names;
  std::map<std::string, size_t> seen;
  Problems problems;
  for (size_t i = 0; i < reader.columns(); ++i) {
    const std::string_view raw = trimmed(reader.cell(i));
    std::string name = with_valid_utf8(raw);
    if (name != raw) {
      warnings.push_back(fmt::format("{}: the name is not UTF-8; it is kept as '{}'", reader.at(i), name));
    }
    if (name.empty()) name = unnamed(i);
    const auto [same, fresh] = seen.emplace(name, i);
    if (!fresh) {
      problems.add("names that are there twice", fmt::format("{}: column {} is called '{}' too; names have to differ",
                                                             reader.at(i), same->second + 1, name));
    }
    names.push_back(std::move(name));
  }
  problems.throw_if_any();
  return names;
}

SeriesColumns assign_columns(const SeriesCsvOptions& options, const CsvReader& first, bool has_first,
                             std::vector<std::string> names) {
  return Assignment(options, first.name(), std::move(names)).run(first, has_first);
}

}  // namespace farsight
