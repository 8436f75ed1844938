// SPDX-License-Identifier: Apache-2.0
#include "data/series_writer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/series_check.h"
#include "data/series_statistics.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kArchiveRows = 1024;  // of a compressed chunk: about look-back + horizon

// Names of links cannot hold '/', and '.' is the group itself.
std::string link_name(const std::string& id) {
  std::string name;
  for (const char c : id) {
    const bool plain = c != '/' && c != '%' && !(c == '.' && name.empty()) && static_cast<uint8_t>(c) >= 32;
    name += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<uint8_t>(c));
  }
  return name.empty() ? "%" : name;
}

void check_table(const std::string& path, const SeriesTable& table) {
  const size_t channels = table.channels.size();
  if (channels == 0 || table.series.empty()) fail(ErrorKind::data, "{}: nothing to write: no channel or series", path);
  if (!table.splits.contains("train")) fail(ErrorKind::data, "{}: no rows are for training", path);
  for (const Series& series : table.series) {
    const size_t cells = series.time.size() * channels;
    if (series.values.size() != cells || (!series.mask.empty() && series.mask.size() != cells) ||
        series.statics.size() != table.static_names.size()) {
      fail(ErrorKind::internal, "series '{}': {} values and {} marks for {} rows of {} channels", series.id,
           series.values.size(), series.mask.size(), series.time.size(), channels);
    }
    if (std::adjacent_find(series.time.begin(), series.time.end(), std::greater_equal<>()) != series.time.end()) {
      fail(ErrorKind::data, "series '{}': time stamps do not increase", series.id);
    }
    for (size_t i = 0; i < cells; ++i) {
      const bool observed = series.mask.empty() || series.mask[i] != 0;
      if (observed ? std::isfinite(series.values[i]) : std::isnan(series.values[i])) continue;
      fail(ErrorKind::data, "series '{}', row {}, channel '{}': {} {}", series.id, i / channels,
           table.channels[i % channels].name, series.values[i],
           observed ? "without a mask" : "where the mask says not observed; NaN is needed");
    }
  }
}

void write_text_column(const h5::Context& context, hid_t group, const std::string& name,
                       const std::vector<std::string>& values) {
  const auto count = static_cast<hsize_t>(values.size());
  const h5::Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  const h5::Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  const h5::Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(layout.get(), false);
  const h5::Handle dataset(
      context.id(H5Dcreate2(group, name.c_str(), type.get(), space.get(), H5P_DEFAULT, layout.get(), H5P_DEFAULT), name,
                 "cannot create dataset"),
      H5Dclose);
  std::vector<const char*> pointers;
  for (const std::string& value : values) pointers.push_back(value.c_str());
  context.ok(H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()), name, "cannot write");
}

class SeriesFile {
 public:
  SeriesFile(const h5::Context& context, hid_t file, const SeriesTable& table, bool compress)
      : context_(context), file_(file), table_(table), compress_(compress), order_(table.series.size()) {
    // Readers number the series in the order of their names.
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::sort(order_.begin(), order_.end(), [&](size_t a, size_t b) { return name(a) < name(b); });
  }

  std::string write() {
    write_channels();
    const h5::Handle group = h5::create_group(context_, file_, "series");
    for (const size_t index : order_) write_entry(group.get(), table_.series[index]);
    write_splits();
    write_statistics();
    write_statics();
    return content_;
  }

 private:
  std::string name(size_t index) const { return link_name(table_.series[index].id); }
  int64_t channels() const { return static_cast<int64_t>(table_.channels.size()); }

  template <typename T>
  void write_array(hid_t group, const std::string& name, hid_t type, const std::vector<T>& values, int64_t columns,
                   bool compress) {
    const auto size = static_cast<int64_t>(values.size());
    ArrayWriter writer(context_, group, name, type,
                       {.size = size,
                        .columns = columns,
                        .compress = compress && size > 0,
                        .chunk = kArchiveRows * std::max<int64_t>(1, columns)});
    finish(writer, values);
  }

  template <typename T>
  void finish(ArrayWriter& writer, const std::vector<T>& values) {
    if (!values.empty()) writer.append(values.data(), static_cast<int64_t>(values.size()));
    content_ += fmt::format("{:016x}\n", writer.finish());
  }

  void write_channels() {
    std::vector<std::string> names, units;
    std::vector<uint8_t> roles;
    for (const Channel& channel : table_.channels) {
      names.push_back(channel.name);
      units.push_back(channel.unit);
      roles.push_back(static_cast<uint8_t>(channel.role));
      content_ += channel.name + "\n" + channel.unit + "\n";
    }
    const h5::Handle group = h5::create_group(context_, file_, "channels");
    write_text_column(context_, group.get(), "name", names);
    write_text_column(context_, group.get(), "unit", units);
    write_array(group.get(), "role", H5T_STD_U8LE, roles, 0, /*compress=*/false);
  }

  void write_entry(hid_t parent, const Series& series) {
    const h5::Handle group = h5::create_group(context_, parent, link_name(series.id));
    h5::write_string(context_, group.get(), "id", series.id);
    content_ += series.id + "\n";
    const auto size = static_cast<int64_t>(series.values.size());
    ArrayWriter values(
        context_, group.get(), "values", H5T_IEEE_F32LE,
        {.size = size, .columns = channels(), .compress = compress_, .chunk = kArchiveRows * channels()});
    h5::write_int(context_, values.id(), "start", series.time.front());
    h5::write_int(context_, values.id(), "step_ns", table_.frequency.step_ns);
    h5::write_int(context_, values.id(), "months", table_.frequency.months);
    h5::write_string(context_, values.id(), "freq", to_string(table_.frequency));
    finish(values, series.values);
    ArrayWriter time(context_, group.get(), "time", H5T_STD_I64LE,
                     {.size = series.rows(), .compress = compress_, .chunk = kArchiveRows});
    h5::write_string(context_, time.id(), "units", "nanoseconds since 1970-01-01T00:00:00Z");
    h5::write_string(context_, time.id(), "calendar", "gregorian");
    h5::write_string(context_, time.id(), "tz", "UTC");
    finish(time, series.time);
    if (!series.mask.empty()) write_array(group.get(), "mask", H5T_STD_U8LE, series.mask, channels(), compress_);
  }

  void write_splits() {
    std::vector<int64_t> rank(order_.size());
    for (size_t i = 0; i < order_.size(); ++i) rank[order_[i]] = static_cast<int64_t>(i);
    const h5::Handle group = h5::create_group(context_, file_, "splits");
    for (const auto& [name, ranges] : table_.splits) {
      std::vector<int64_t> flat;
      for (const SplitRange& range : ranges) {
        flat.insert(flat.end(), {rank[static_cast<size_t>(range.series)], range.begin, range.end});
      }
      write_array(group.get(), name, H5T_STD_I64LE, flat, 3, /*compress=*/false);
    }
  }

  void write_statistics() {
    const auto statistics = channel_statistics(table_, table_.splits.at("train"));
    const h5::Handle group = h5::create_group(context_, file_, "stats");
    h5::write_string(context_, group.get(), "computed_on", "train");
    const auto column = [&](const char* name, double ChannelStatistics::*member) {
      std::vector<double> values;
      for (const ChannelStatistics& s : statistics) values.push_back(s.*member);
      write_array(group.get(), name, H5T_IEEE_F64LE, values, 0, /*compress=*/false);
    };
    column("mean", &ChannelStatistics::mean);
    column("std", &ChannelStatistics::std);
    column("min", &ChannelStatistics::min);
    column("max", &ChannelStatistics::max);
    column("median", &ChannelStatistics::median);
    column("iqr", &ChannelStatistics::iqr);
    std::vector<int64_t> counts;
    for (const ChannelStatistics& s : statistics) counts.push_back(s.count);
    write_array(group.get(), "count", H5T_STD_I64LE, counts, 0, /*compress=*/false);
  }

  void write_statics() {
    if (table_.static_names.empty()) return;
    std::vector<float> values;
    for (const size_t index : order_) {
      const std::vector<float>& row = table_.series[index].statics;
      values.insert(values.end(), row.begin(), row.end());
    }
    ArrayWriter writer(
        context_, file_, "static", H5T_IEEE_F32LE,
        {.size = static_cast<int64_t>(values.size()), .columns = static_cast<int64_t>(table_.static_names.size())});
    h5::write_strings(context_, writer.id(), "name", table_.static_names);
    finish(writer, values);
  }

  const h5::Context& context_;
  hid_t file_;
  const SeriesTable& table_;
  bool compress_;
  std::vector<size_t> order_;
  std::string content_;
};

}  // namespace

std::string write_series(const std::string& path, const SeriesHeader& header, const SeriesTable& table) {
  check_table(path, table);
  return write_data_file(path, header, "series", [&](const h5::Context& context, hid_t file) {
    return SeriesFile(context, file, table, header.compress).write();
  });
}

}  // namespace farsight
