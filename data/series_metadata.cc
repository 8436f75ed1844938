// SPDX-License-Identifier: Apache-2.0
#include "data/series_metadata.h"

#include <algorithm>

#include "data/array_check.h"
#include "data/array_metadata.h"
#include "data/series_check.h"
#include "kernels/error.h"

namespace farsight {

namespace {

class SeriesParser {
 public:
  explicit SeriesParser(const OpenDataFile& opened) : context_(opened.context), root_(opened.root.get()) {
    static_cast<DataFileInfo&>(file_) = opened.info;
  }

  SeriesDescriptor run() {
    parse_channels();
    parse_series();
    parse_statistics();
    for (const char* name : {"train", "valid", "test"}) parse_split(name);
    parse_statics();
    return std::move(file_);
  }

 private:
  [[noreturn]] void refuse(const std::string& path, const std::string& what) const {
    fail(ErrorKind::data, "{}: '{}' {}", file_.file, path, what);
  }

  h5::Handle open_needed(const std::string& path) const {
    if (!h5::has_link(context_, root_, path.substr(0, path.find('/')))) refuse("/" + path, "is missing");
    const size_t slash = path.find('/');
    if (slash != std::string::npos && !h5::has_link(context_, root_, path)) refuse("/" + path, "is missing");
    return h5::open_dataset(context_, root_, path);
  }

  // Elements of a small dataset of `rank` dimensions; the last one has `columns` of them where that is not 0.
  int64_t small_size(hid_t dataset, const std::string& path, int rank, int64_t columns, int64_t most) const {
    const h5::Handle space(H5Dget_space(dataset), H5Sclose);
    std::vector<hsize_t> extents(static_cast<size_t>(rank));
    if (H5Sget_simple_extent_ndims(space.get()) != rank) refuse(path, fmt::format("is not of rank {}", rank));
    H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr);
    int64_t size = 1;
    for (const hsize_t extent : extents) {
      if (extent > static_cast<hsize_t>(most)) refuse(path, fmt::format("is of an absurd extent, {}", extent));
      size *= static_cast<int64_t>(extent);
    }
    if (columns > 0 && extents.back() != static_cast<hsize_t>(columns)) {
      refuse(path, fmt::format("has rows of {}; {} are needed", extents.back(), columns));
    }
    if (size > most) refuse(path, fmt::format("has {} elements; {} are accepted", size, most));
    return size;
  }

  template <typename T>
  std::vector<T> numbers(const std::string& path, hid_t native, H5T_class_t kind, int rank, int64_t columns,
                         int64_t most) {
    const h5::Handle dataset = open_needed(path);
    const h5::Handle type(H5Dget_type(dataset.get()), H5Tclose);
    if (H5Tget_class(type.get()) != kind) {
      refuse("/" + path, kind == H5T_FLOAT ? "is not of floating-point numbers" : "is not of integers");
    }
    std::vector<T> values(static_cast<size_t>(small_size(dataset.get(), "/" + path, rank, columns, most)));
    const ArrayForm form = kind == H5T_FLOAT ? (rank == 1 ? ArrayForm::reals : ArrayForm::real_rows)
                                             : (rank == 1 ? ArrayForm::integers : ArrayForm::integer_rows);
    file_.tables.push_back(describe_array(context_, dataset.get(), form, "/" + path, file_.file_bytes));
    if (values.empty()) return values;
    context_.ok(H5Dread(dataset.get(), native, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "/" + path,
                "cannot read");
    return values;
  }

  std::vector<std::string> strings(const std::string& path) const {
    const h5::Handle dataset = open_needed(path);
    const h5::Handle type(H5Dget_type(dataset.get()), H5Tclose);
    if (H5Tget_class(type.get()) != H5T_STRING) refuse("/" + path, "is not of strings");
    const auto count = static_cast<size_t>(small_size(dataset.get(), "/" + path, 1, 0, kMaxChannels));
    return H5Tis_variable_str(type.get()) > 0 ? variable_strings(dataset.get(), type.get(), path, count)
                                              : fixed_strings(dataset.get(), type.get(), path, count);
  }

  std::vector<std::string> variable_strings(hid_t dataset, hid_t type, const std::string& path, size_t count) const {
    std::vector<char*> pointers(count, nullptr);
    context_.ok(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()), "/" + path, "cannot read");
    std::vector<std::string> values;
    for (const char* pointer : pointers) values.emplace_back(pointer != nullptr ? pointer : "");
    const h5::Handle space(H5Dget_space(dataset), H5Sclose);
    H5Dvlen_reclaim(type, space.get(), H5P_DEFAULT, pointers.data());
    return values;
  }

  std::vector<std::string> fixed_strings(hid_t dataset, hid_t type, const std::string& path, size_t count) const {
    const size_t width = H5Tget_size(type);
    if (width > static_cast<size_t>(kMaxStringBytes) / std::max<size_t>(count, 1)) refuse("/" + path, "is too large");
    std::string raw(width * count, '\0');
    context_.ok(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw.data()), "/" + path, "cannot read");
    std::vector<std::string> values;
    for (size_t i = 0; i < count; ++i) {
      const std::string value = raw.substr(i * width, width);
      values.push_back(value.substr(0, value.find('\0')));
    }
    return values;
  }

  void parse_channels() {
    for (std::string& name : strings("channels/name")) file_.channels.push_back({.name = std::move(name), .unit = {}});
    const auto of_all = [&](size_t count, const char* path) {
      if (count != file_.channels.size()) {
        refuse(path, fmt::format("has {} elements for {} channels", count, file_.channels.size()));
      }
    };
    if (h5::has_link(context_, root_, "channels/unit")) {
      const std::vector<std::string> units = strings("channels/unit");
      of_all(units.size(), "/channels/unit");
      for (size_t c = 0; c < units.size(); ++c) file_.channels[c].unit = units[c];
    }
    if (!h5::has_link(context_, root_, "channels/role")) return;
    const auto roles = numbers<int64_t>("channels/role", H5T_NATIVE_INT64, H5T_INTEGER, 1, 0, kMaxChannels);
    of_all(roles.size(), "/channels/role");
    for (size_t c = 0; c < roles.size(); ++c) {
      if (roles[c] < 0 || roles[c] > static_cast<int64_t>(ChannelRole::known_future)) {
        refuse("/channels/role", fmt::format("gives channel '{}' role {}; 0 (target), 1 (past) and 2 (known_future) "
                                             "are known",
                                             file_.channels[c].name, roles[c]));
      }
      file_.channels[c].role = static_cast<ChannelRole>(roles[c]);
    }
  }

  static herr_t collect_name(hid_t /*group*/, const char* name, const H5L_info_t* /*info*/, void* data) {
    static_cast<std::vector<std::string>*>(data)->emplace_back(name);
    return 0;
  }

  // Series are numbered in the order of their names, by bytes.
  void parse_series() {
    if (!h5::has_link(context_, root_, "series")) refuse("/series", "is missing");
    const h5::Handle group = h5::open_group(context_, root_, "series");
    std::vector<std::string> names;
    hsize_t index = 0;
    context_.ok(H5Literate(group.get(), H5_INDEX_NAME, H5_ITER_INC, &index, &SeriesParser::collect_name, &names),
                "/series", "cannot list");
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) parse_entry(group.get(), name);
  }

  void parse_entry(hid_t parent, const std::string& name) {
    const std::string prefix = "/series/" + name + "/";
    const h5::Handle group = h5::open_group(context_, parent, name);
    const auto array = [&](const char* what, ArrayForm form) {
      if (!h5::has_link(context_, group.get(), what)) refuse(prefix + what, "is missing");
      const h5::Handle dataset = h5::open_dataset(context_, group.get(), what);
      return describe_array(context_, dataset.get(), form, prefix + what, file_.file_bytes);
    };
    SeriesEntry entry;
    entry.id = h5::read_string(context_, group.get(), "id").value_or(name);
    entry.values = array("values", ArrayForm::real_rows);
    entry.time = array("time", ArrayForm::integers);
    if (h5::has_link(context_, group.get(), "mask")) entry.mask = array("mask", ArrayForm::integer_rows);
    entry.rows = entry.time.size;
    const h5::Handle values = h5::open_dataset(context_, group.get(), "values");
    entry.start_ns = h5::read_int(context_, values.get(), "start").value_or(0);
    const Frequency frequency{.step_ns = h5::read_int(context_, values.get(), "step_ns").value_or(0),
                              .months = h5::read_int(context_, values.get(), "months").value_or(0)};
    if (!file_.series.empty() && frequency != file_.frequency) {
      refuse(prefix + "values", "has another frequency than the series before it; one file holds one");
    }
    file_.frequency = frequency;
    file_.series.push_back(std::move(entry));
  }

  void parse_statistics() {
    const auto channels = file_.channel_count();
    const auto of = [&](const char* name) {
      return numbers<double>(std::string("stats/") + name, H5T_NATIVE_DOUBLE, H5T_FLOAT, 1, channels, kMaxChannels);
    };
    const auto mean = of("mean"), std = of("std"), min = of("min"), max = of("max"), median = of("median"),
               iqr = of("iqr");
    const auto count = numbers<int64_t>("stats/count", H5T_NATIVE_INT64, H5T_INTEGER, 1, channels, kMaxChannels);
    for (size_t c = 0; c < count.size(); ++c) {
      file_.statistics.push_back({mean[c], std[c], min[c], max[c], median[c], iqr[c], count[c]});
    }
  }

  void parse_split(const std::string& name) {
    if (!h5::has_link(context_, root_, "splits")) refuse("/splits", "is missing");
    if (!h5::has_link(context_, root_, "splits/" + name)) return;
    const auto flat = numbers<int64_t>("splits/" + name, H5T_NATIVE_INT64, H5T_INTEGER, 2, 3, 3 * kMaxSeries);
    std::vector<SplitRange>& ranges = file_.splits[name];
    for (size_t i = 0; i + 3 <= flat.size(); i += 3) ranges.push_back({flat[i], flat[i + 1], flat[i + 2]});
  }

  void parse_statics() {
    if (!h5::has_link(context_, root_, "static")) return;
    const h5::Handle dataset = h5::open_dataset(context_, root_, "static");
    file_.static_names = h5::read_strings(context_, dataset.get(), "name");
    file_.statics = numbers<float>("static", H5T_NATIVE_FLOAT, H5T_FLOAT, 2,
                                   static_cast<int64_t>(file_.static_names.size()), kMaxChannels * 64);
  }

  const h5::Context& context_;
  hid_t root_;
  SeriesDescriptor file_;
};

}  // namespace

SeriesDescriptor parse_series(const OpenDataFile& opened) { return SeriesParser(opened).run(); }

}  // namespace farsight
