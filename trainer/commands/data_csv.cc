// SPDX-License-Identifier: Apache-2.0
// farsight data csv
#include <algorithm>
#include <charconv>
#include <chrono>
#include <ostream>

#include "data/corpus_writer.h"
#include "data/date_time.h"
#include "data/file.h"
#include "data/series_csv.h"
#include "data/series_split.h"
#include "data/series_warnings.h"
#include "data/series_writer.h"
#include "kernels/error.h"
#include "trainer/commands/data_commands.h"
#include "trainer/commands/data_options.h"
#include "trainer/version.h"

namespace farsight {

namespace {

namespace po = boost::program_options;
using Args = std::vector<std::string>;

constexpr size_t kChannelsShown = 30;

CommandTable csv_table() {
  CommandTable table{
      .name = "farsight data csv",
      .synopsis = "FILE... -o F.h5 [options]",
      .description =
          "Turns tables of measurements (a row for each time, a column for each channel) into one HDF5 file of time "
          "series.\nLists of columns are separated by commas, or the option is repeated; a comma in a name is "
          "written \\,. Several files with equal headers are one table.",
      .example = "farsight data csv load.csv --targets=load --known-future=temperature --split=0.7/0.1/0.2 -o load.h5",
      .positional = "input",
      .options = {}};
  const auto text = [](const char* value) { return po::value<std::string>()->default_value(value); };
  const auto list = [] { return po::value<Args>()->composing(); };
  table.options.add_options()                                      //
      ("output,o", po::value<std::string>(), "the file to write")  //
      ("time", text(""),
       "the column of dates; without it the one called date, time, timestamp, ds or datetime, else the first column if "
       "it "
       "holds dates")  //
      ("freq", text("auto"),
       "distance of rows: 15min, 1h, 1d, 1M (month), 3M, 1y ..., or irregular; auto: that of 99 % of the rows")  //
      ("targets", list(), "channels to forecast; without it all that no other option names")                     //
      ("past", list(), "channels known up to the moment of a forecast; with --targets: all others")              //
      ("known-future", list(), "channels known over the horizon too: a calendar, a plan, another forecast")      //
      ("static", list(), "columns with one number per series")                                                   //
      ("series", text(""), "the column that tells several series apart")                                         //
      ("drop", list(), "columns that are left out")                                                              //
      ("unit", list(), "CHANNEL=UNIT")                                                                           //
      ("split", text("0.7/0.1/0.2"),
       "rows for train/valid/test: fractions, ett-hour, ett-minute, dates:A/B (begin of valid and of test), "
       "rows:N/N/N")  //
      ("missing", text("error"),
       "cells and rows without a value: error (list them), ffill (the last value of the channel), mask (keep them as "
       "not "
       "measured)")                                                                                                //
      ("sentinel", list(), "a number that means 'not measured', in all channels or one: -9999, -9999:wind, none")  //
      ("duplicates", text("error"), "rows with equal times: error, first, last or mean")                           //
      ("sort", po::bool_switch(), "put rows into the order of time")                                               //
      ("date-format", text(""),
       "%Y %y %m %d %H %I %p %M %S %f %z %b and what stands between them, epoch-s or epoch-ms; without it ISO-8601, "
       "2016/7/1 0:00, and seconds or milliseconds since 1970 are recognised")                       //
      ("timezone", text(""), "zone of dates without an offset, like Europe/Berlin; without it UTC")  //
      ("decimal", text("."), "the decimal mark: . or ,")                                             //
      ("delimiter", text("auto"),
       "what stands between columns: auto (comma, semicolon or tab), tab, or a character")     //
      ("licence", text(""), "licence of the data, kept in the file")                           //
      ("compress", po::bool_switch(), "deflate the arrays: for archives, slow to train from")  //
      ("reproducible", po::bool_switch(), "derive uuid and time from the content")             //
      ("overwrite", po::bool_switch(), "replace an existing output");
  return table;
}

// "a,b\,c" -> "a", "b,c"; of every occurrence of the option.
Args list_of(const po::variables_map& values, const char* option) {
  Args items;
  if (values.count(option) == 0) return items;
  for (const std::string& value : values[option].as<Args>()) {
    items.emplace_back();
    for (size_t i = 0; i < value.size(); ++i) {
      if (value[i] == ',') {
        items.emplace_back();
        continue;
      }
      if (value[i] == '\\' && i + 1 < value.size() && value[i + 1] == ',') ++i;
      items.back() += value[i];
    }
  }
  for (const std::string& item : items) {
    if (item.empty()) fail(ErrorKind::usage, "--{}: an empty name", option);
  }
  return items;
}

template <typename T>
T choose(const po::variables_map& values, const char* option,
         std::initializer_list<std::pair<const char*, T>> choices) {
  const auto& value = values[option].as<std::string>();
  std::string names;
  for (const auto& [name, choice] : choices) {
    if (value == name) return choice;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  }
  fail(ErrorKind::usage, "--{}={}: use one of: {}", option, value, names);
}

std::vector<Sentinel> sentinels_of(const po::variables_map& values) {
  std::vector<Sentinel> sentinels;
  for (const std::string& text : list_of(values, "sentinel")) {
    if (text == "none") continue;
    Sentinel sentinel;
    const std::string number = text.substr(0, text.find(':'));
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), sentinel.value);
    if (error != std::errc() || end != number.data() + number.size()) {
      fail(ErrorKind::usage, "--sentinel={}: write a number, NUMBER:CHANNEL, or none", text);
    }
    if (number.size() < text.size()) sentinel.channel = text.substr(number.size() + 1);
    sentinels.push_back(std::move(sentinel));
  }
  return sentinels;
}

char delimiter_of(const std::string& text) {
  if (text == "auto") return '\0';
  if (text == "tab" || text == "\\t") return '\t';
  if (text.size() == 1) return text[0];
  fail(ErrorKind::usage, "--delimiter={}: write auto, tab, or one character", text);
}

SeriesCsvOptions csv_options(const po::variables_map& values) {
  const auto text = [&](const char* option) { return values[option].as<std::string>(); };
  SeriesCsvOptions options;
  if (values.count("input") > 0) options.inputs = values["input"].as<Args>();
  options.time = text("time");
  options.series = text("series");
  options.targets = list_of(values, "targets");
  options.known_future = list_of(values, "known-future");
  options.past = list_of(values, "past");
  options.statics = list_of(values, "static");
  options.drop = list_of(values, "drop");
  options.units = list_of(values, "unit");
  options.date_format = text("date-format");
  options.timezone = text("timezone");
  options.frequency = text("freq");
  options.delimiter = delimiter_of(text("delimiter"));
  if (text("decimal").size() != 1) fail(ErrorKind::usage, "--decimal={}: it is a point or a comma", text("decimal"));
  options.decimal = text("decimal")[0];
  options.missing = choose<MissingPolicy>(
      values, "missing",
      {{"error", MissingPolicy::error}, {"ffill", MissingPolicy::forward_fill}, {"mask", MissingPolicy::mask}});
  options.duplicates = choose<DuplicatePolicy>(values, "duplicates",
                                               {{"error", DuplicatePolicy::error},
                                                {"first", DuplicatePolicy::first},
                                                {"last", DuplicatePolicy::last},
                                                {"mean", DuplicatePolicy::mean}});
  options.sentinels = sentinels_of(values);
  options.sort = values["sort"].as<bool>();
  return options;
}

SeriesHeader header_of(const po::variables_map& values, const Args& args, const SeriesCsv& csv) {
  SeriesHeader header;
  header.tool = std::string("farsight ") + version();
  header.command = fmt::format("farsight data csv {}", fmt::join(args, " "));
  header.licence = values["licence"].as<std::string>();
  for (const std::string& input : values["input"].as<Args>()) header.source_names.push_back(file_name_of(input));
  header.source_sha256 = csv.sha256;
  header.reproducible = values["reproducible"].as<bool>();
  header.compress = values["compress"].as<bool>();
  header.overwrite = values["overwrite"].as<bool>();
  return header;
}

void print_channels(const std::vector<Channel>& channels, std::ostream& out) {
  const size_t shown = std::min(channels.size(), kChannelsShown);
  size_t width = 0;
  for (size_t c = 0; c < shown; ++c) width = std::max(width, channels[c].name.size());
  for (size_t c = 0; c < shown; ++c) {
    const std::string unit = channels[c].unit.empty() ? "" : fmt::format("  [{}]", channels[c].unit);
    out << fmt::format("  {:{}}  {}{}\n", channels[c].name, width, to_string(channels[c].role), unit);
  }
  if (shown < channels.size()) out << fmt::format("  ... and {} more\n", channels.size() - shown);
}

// Rows over all series, which it returns, and the first and last time among them.
int64_t print_split(const std::string& name, const SeriesTable& table, std::ostream& out) {
  const std::vector<SplitRange>& ranges = table.splits.at(name);
  int64_t rows = 0, first = INT64_MAX, last = INT64_MIN;
  for (const SplitRange& range : ranges) {
    const std::vector<int64_t>& time = table.series[static_cast<size_t>(range.series)].time;
    rows += range.end - range.begin;
    first = std::min(first, time[static_cast<size_t>(range.begin)]);
    last = std::max(last, time[static_cast<size_t>(range.end - 1)]);
  }
  out << fmt::format("{:5}  {} rows  {} to {}\n", name, with_commas(rows), iso_time(first), iso_time(last));
  return rows;
}

void print_table(const SeriesTable& table, std::ostream& out) {
  int64_t rows = 0, first = INT64_MAX, last = INT64_MIN;
  for (const Series& series : table.series) {
    rows += series.rows();
    first = std::min(first, series.time.front());
    last = std::max(last, series.time.back());
  }
  out << fmt::format("{} rows in {} series, {} channels{}, frequency {}, {} to {}\n", with_commas(rows),
                     with_commas(static_cast<int64_t>(table.series.size())), table.channels.size(),
                     table.static_names.empty() ? "" : fmt::format(" and {} statics", table.static_names.size()),
                     to_string(table.frequency), iso_time(first), iso_time(last));
  print_channels(table.channels, out);
  int64_t unused = rows;
  for (const char* name : {"train", "valid", "test"}) {
    if (table.splits.contains(name)) unused -= print_split(name, table, out);
  }
  if (unused > 0) out << fmt::format("{} rows are in no split\n", with_commas(unused));
}

}  // namespace

int run_data_csv(const Args& args, std::ostream& out, std::ostream& err) {
  const auto values = parse_command(csv_table(), args, out);
  if (!values) return 0;
  const auto begin = std::chrono::steady_clock::now();
  const SeriesCsvOptions options = csv_options(*values);
  if (values->count("output") == 0) fail(ErrorKind::usage, "data csv: no output; pass -o F.h5");
  const auto& output = (*values)["output"].as<std::string>();
  refuse_existing(output, (*values)["overwrite"].as<bool>());
  SeriesCsv csv = read_series_csv(options);
  split_series((*values)["split"].as<std::string>(), csv.table);
  for (const std::string& warning : training_warnings(csv.table)) csv.warnings.push_back(warning);
  for (const std::string& warning : csv.warnings) err << "warning: " << warning << '\n';
  write_series(output, header_of(*values, args, csv), csv.table);
  print_table(csv.table, out);
  if (csv.inserted_rows > 0) out << fmt::format("{} missing rows inserted\n", with_commas(csv.inserted_rows));
  if (csv.filled > 0) {
    out << fmt::format("{} cells {}\n", with_commas(csv.filled),
                       options.missing == MissingPolicy::mask ? "masked" : "filled with the value before them");
  }
  for (size_t i = 0; i < options.inputs.size(); ++i) {
    out << fmt::format("{}: sha256 {}\n", options.inputs[i], csv.sha256[i]);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  out << fmt::format("{}: written in {:.2f} s\nnext: farsight data inspect {}\n", output, seconds, output);
  return 0;
}

}  // namespace farsight
