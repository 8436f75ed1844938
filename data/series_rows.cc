// SPDX-License-Identifier: Apache-2.0
#include "data/series_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "data/csv_number.h"
#include "data/csv_reader.h"
#include "data/date_column.h"
#include "data/file.h"
#include "data/utf8.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
constexpr size_t kMostFiles = 65'535;
constexpr size_t kChannelsCounted = 20;

// Cells without a number in one channel.
struct MissingCells {
  int64_t count = 0;
  int64_t words = 0;       // of them, neither empty nor a known word for "no value"
  std::string first_word;  // with its place
};

class RowReader {
 public:
  RowReader(const SeriesCsvOptions& options, Problems& problems)
      : options_(options), problems_(problems), dates_(options.date_format, options.timezone) {}

  SeriesRowTable run() {
    if (options_.inputs.size() > kMostFiles) fail(ErrorKind::usage, "more than {} input files", kMostFiles);
    for (const std::string& input : options_.inputs) read_file(input);
    Problems cells = std::exchange(problems_, Problems());
    dates_.finish(problems_);
    problems_.merge(std::move(cells));
    if (table_.series.empty()) {
      problems_.throw_if_any();
      fail(ErrorKind::data, "{}: no row below the header", options_.inputs.front());
    }
    report_statics();
    report_missing();
    return std::move(table_);
  }

 private:
  bool first_file() const { return table_.files.size() == 1; }

  void read_file(const std::string& input) {
    table_.files.push_back(input);
    CsvReader reader(input, options_.delimiter, options_.decimal);
    std::vector<std::string> names = read_header(reader, table_.warnings);
    const bool any = reader.next();
    if (first_file()) {
      table_.columns = assign_columns(options_, reader, any, std::move(names));
      prepare_channels();
    } else {
      compare_header(input, names);
    }
    int64_t empty_line = 0;
    for (bool more = any; more; more = reader.next()) {
      if (reader.blank()) {
        if (empty_line == 0) empty_line = reader.line();
        continue;
      }
      if (empty_line != 0) add_empty_line(input, empty_line);
      empty_line = 0;
      read_row(reader);
    }
    table_.sha256.push_back(reader.sha256());
  }

  void prepare_channels() {
    const SeriesColumns& columns = table_.columns;
    row_.resize(columns.channels.size());
    missing_.resize(columns.channels.size());
    sentinels_.resize(columns.channels.size());
    for (const Sentinel& sentinel : options_.sentinels) {
      bool found = sentinel.channel.empty();
      for (size_t c = 0; c < columns.channels.size(); ++c) {
        const bool here = sentinel.channel.empty() || columns.roles[c].name == sentinel.channel;
        if (here) sentinels_[c].push_back(static_cast<float>(sentinel.value));
        found |= here;
      }
      if (found) continue;
      fail(ErrorKind::data, "{}:1: no channel '{}'; see --sentinel={}:{}", table_.files[0], sentinel.channel,
           sentinel.value, sentinel.channel);
    }
  }

  void compare_header(const std::string& input, const std::vector<std::string>& names) const {
    const std::vector<std::string>& first = table_.columns.names;
    const size_t common = std::min(names.size(), first.size());
    for (size_t i = 0; i < common; ++i) {
      if (names[i] == first[i]) continue;
      fail(ErrorKind::data, "{}:1:{}: column '{}' is '{}' in {}: files of one table have equal headers", input, i + 1,
           names[i], first[i], table_.files[0]);
    }
    if (names.size() == first.size()) return;
    fail(ErrorKind::data, "{}:1: {} columns, expected {} as in {}", input, names.size(), first.size(), table_.files[0]);
  }

  void add_empty_line(const std::string& input, int64_t line) {
    problems_.add("empty lines", fmt::format("{}:{}: an empty line between rows; remove it", input, line));
  }

  void read_row(const CsvReader& reader) {
    const SeriesColumns& columns = table_.columns;
    if (reader.columns() != columns.names.size()) {
      add_ragged(reader);
      return;
    }
    const size_t date = columns.time;
    const std::optional<int64_t> time =
        dates_.read(trimmed(reader.cell(date)), reader.name(), reader.line_of(date), date + 1);
    for (size_t c = 0; c < columns.channels.size(); ++c) row_[c] = read_value(reader, c);
    SeriesRows* rows = series_of(reader);
    if (!time || rows == nullptr) {
      table_.complete = false;
      return;
    }
    const RowPlace place{.file = static_cast<uint32_t>(table_.files.size() - 1),
                         .line = static_cast<uint32_t>(reader.line_of(date))};
    rows->time.push_back(*time);
    rows->place.push_back(place);
    rows->values.insert(rows->values.end(), row_.begin(), row_.end());
    for (size_t k = 0; k < columns.statics.size(); ++k) read_static(reader, k, place, *rows);
  }

  void add_ragged(const CsvReader& reader) {
    table_.complete = false;
    const size_t expected = table_.columns.names.size();
    const bool commas = reader.delimiter() == ',' && reader.columns() > expected;
    problems_.add(
        "rows with another number of columns",
        fmt::format("{}:{}: {} columns, expected {}{}", reader.name(), reader.line(), reader.columns(), expected,
                    commas ? "; are there decimal commas? Then another --delimiter is needed" : ""));
  }

  SeriesRows* series_of(const CsvReader& reader) {
    const std::optional<size_t> column = table_.columns.series;
    const std::string_view id = column ? trimmed(reader.cell(*column)) : "0";
    if (last_ < table_.series.size() && table_.series[last_].id == id) return &table_.series[last_];
    if (id.empty() || valid_utf8_prefix(id) != id.size()) {
      problems_.add("rows without a series",
                    fmt::format("{}: {} in the column of series '{}'", reader.at(*column),
                                id.empty() ? "nothing" : "text that is not UTF-8", table_.columns.names[*column]));
      return nullptr;
    }
    const auto [found, fresh] = index_.emplace(std::string(id), table_.series.size());
    last_ = found->second;
    if (fresh) {
      SeriesRows& rows = table_.series.emplace_back();
      rows.id = id;
      rows.statics.assign(table_.columns.statics.size(), kNone);
      rows.statics_place.resize(table_.columns.statics.size());
    }
    return &table_.series[last_];
  }

  float read_value(const CsvReader& reader, size_t c) {
    const size_t column = table_.columns.channels[c];
    const std::string_view text = reader.cell(column);
    const Cell cell = read_cell(text, options_.decimal);
    if (cell.kind == CellKind::number && !is_sentinel(c, cell.value)) return cell.value;
    if (cell.kind == CellKind::number || cell.kind == CellKind::missing || cell.kind == CellKind::text) {
      note_missing(reader, c, cell.kind == CellKind::text);
    } else {
      add_foreign_number(reader, column, cell.kind);
    }
    return kNone;
  }

  bool is_sentinel(size_t c, float value) const {
    return std::find(sentinels_[c].begin(), sentinels_[c].end(), value) != sentinels_[c].end();
  }

  // Empty cells at the end of the input of a forecast are no problem: which ones those are is known later.
  void note_missing(const CsvReader& reader, size_t c, bool word) {
    const size_t column = table_.columns.channels[c];
    const std::string_view text = trimmed(reader.cell(column));
    MissingCells& missing = missing_[c];
    ++missing.count;
    if (word && ++missing.words == 1) missing.first_word = fmt::format("'{}' ({})", text, reader.at(column));
    if (options_.missing != MissingPolicy::error || (options_.open_end && !word)) return;
    problems_.add("cells without a number", fmt::format("{}: '{}' in channel {}; use --missing=mask or ffill",
                                                        reader.at(column), text, table_.columns.roles[c].name));
  }

  void add_foreign_number(const CsvReader& reader, size_t column, CellKind kind) {
    const std::string cell = fmt::format("{}: '{}'", reader.at(column), trimmed(reader.cell(column)));
    if (kind == CellKind::decimal_comma) {
      problems_.add("decimal commas",
                    cell + " looks like a decimal comma: --decimal=, (separators of thousands have to be removed)");
    } else if (kind == CellKind::decimal_point) {
      problems_.add("decimal points", cell +
                                          " looks like a decimal point: leave out --decimal=, "
                                          "(separators of thousands have to be removed)");
    } else if (kind == CellKind::thousands) {
      problems_.add("separators of thousands", cell + " has separators of thousands, which are not read: remove them");
    } else {
      problems_.add("numbers that are too large", cell + " is beyond the range of 32-bit floating point");
    }
  }

  void read_static(const CsvReader& reader, size_t k, RowPlace place, SeriesRows& rows) {
    const size_t column = table_.columns.statics[k];
    const Cell cell = read_cell(reader.cell(column), options_.decimal);
    if (cell.kind == CellKind::missing) return;  // it may stand in one row only
    const std::string& name = table_.columns.names[column];
    if (cell.kind != CellKind::number) {
      problems_.add("static columns", fmt::format("{}: '{}' is no number in the static column {}", reader.at(column),
                                                  reader.cell(column), name));
    } else if (std::isnan(rows.statics[k])) {
      rows.statics[k] = cell.value;
      rows.statics_place[k] = place;
    } else if (rows.statics[k] != cell.value) {
      problems_.add("static columns",
                    fmt::format("{}: static {} is {}{}, but {} in {}; --past={} makes a channel of it",
                                reader.at(column), name, cell.value, table_.of_series(rows), rows.statics[k],
                                table_.line(rows.statics_place[k], place), name));
    }
  }

  void report_statics() {
    for (const SeriesRows& rows : table_.series) {
      for (size_t k = 0; k < rows.statics.size(); ++k) {
        if (!std::isnan(rows.statics[k])) continue;
        problems_.add("static columns",
                      fmt::format("{}: no number in the static column {}{}", table_.files[0],
                                  table_.columns.names[table_.columns.statics[k]], table_.of_series(rows)));
      }
    }
  }

  // How many there are in which channel: as part of the error, or as a warning about words that are not known.
  void report_missing() {
    std::string counts;
    size_t listed = 0, more = 0;
    for (size_t c = 0; c < missing_.size(); ++c) {
      const MissingCells& missing = missing_[c];
      const std::string& name = table_.columns.roles[c].name;
      if (missing.count == 0) continue;
      if (options_.missing != MissingPolicy::error && missing.words > 0) {
        table_.warnings.push_back(
            fmt::format("channel {}: {} cells are neither numbers nor empty and count as not "
                        "measured; the first is {}",
                        name, with_commas(missing.words), missing.first_word));
      }
      if (++listed <= kChannelsCounted)
        counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", name, with_commas(missing.count));
      more += listed > kChannelsCounted ? 1 : 0;
    }
    if (counts.empty() || options_.missing != MissingPolicy::error || options_.open_end) return;
    if (more > 0) counts += fmt::format(" and {} more channels", more);
    problems_.add("counts", fmt::format("cells without a number, by channel: {}", counts));
  }

  const SeriesCsvOptions& options_;
  Problems& problems_;
  DateColumn dates_;
  SeriesRowTable table_;
  std::map<std::string, size_t, std::less<>> index_;  // of the series
  size_t last_ = 0;                                   // the series of the row before
  std::vector<float> row_;
  std::vector<MissingCells> missing_;
  std::vector<std::vector<float>> sentinels_;
};

}  // namespace

std::string SeriesRowTable::at(RowPlace place, size_t column) const {
  return fmt::format("{}:{}:{}", files[place.file], place.line, column + 1);
}

std::string SeriesRowTable::line(RowPlace other, RowPlace place) const {
  if (other.file == place.file) return fmt::format("line {}", other.line);
  return fmt::format("{}:{}", files[other.file], other.line);
}

std::string SeriesRowTable::of_series(const SeriesRows& rows) const {
  return series.size() > 1 ? fmt::format(" of series '{}'", rows.id) : "";
}

SeriesRowTable read_series_rows(const SeriesCsvOptions& options, Problems& problems) {
  return RowReader(options, problems).run();
}

}  // namespace farsight
