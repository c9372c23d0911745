// The Python module muzero_rc.env._native.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>

#include "errors.hpp"
#include "first_pass.hpp"
#include "frames.hpp"
#include "heap.hpp"
#include "realtime.hpp"
#include "session.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace muzero_rc;

namespace {

// Lets Ctrl-C and other signal handlers run while a call waits without the GIL.
void check_signals() {
  nb::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

// True at most ten times a second, so that what is asked often costs next to nothing.
std::function<bool()> ten_times_a_second() {
  return [last = std::chrono::steady_clock::time_point()]() mutable {
    const auto now = std::chrono::steady_clock::now();
    if (now - last < std::chrono::milliseconds(100)) return false;
    last = now;
    return true;
  };
}

Heartbeat checking_signals() {
  return [due = ten_times_a_second()] {
    if (due()) check_signals();
  };
}

// Gives a Python function (or None) a copy of each frame's blocks. The caller keeps
// the function alive.
BlockSink handing_over(const nb::object& on_blocks) {
  if (on_blocks.is_none()) return nullptr;
  return [&on_blocks](int rows, int cols, const int32_t* values) {
    nb::gil_scoped_acquire gil;
    const nb::ndarray<nb::numpy, const int32_t, nb::ndim<3>> view(
        values, {static_cast<size_t>(rows), static_cast<size_t>(cols), 4});
    on_blocks(nb::cast(view, nb::rv_policy::copy));
  };
}

// Signals, and a Python function (or None) that wants to know the frames done. The caller
// keeps the function alive: taking a reference would need the GIL.
Progress reporting(const nb::object& on_frames) {
  return [due = ten_times_a_second(), &on_frames](int64_t done) {
    if (!due()) return;
    nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (!on_frames.is_none()) on_frames(done);
  };
}

void raise_python(PyObject* type, nb::args args) {
  nb::object error = nb::steal(PyObject_CallObject(type, args.ptr()));
  if (error.is_valid()) PyErr_SetObject(type, error.ptr());
}

void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const InputError& error) {
    nb::object type = nb::module_::import_("muzero_rc.errors").attr("InputError");
    raise_python(type.ptr(), nb::borrow<nb::args>(nb::make_tuple(error.what())));
  } catch (const WriteError& error) {
    nb::object type = nb::module_::import_("muzero_rc.errors").attr("OutputError");
    raise_python(type.ptr(), nb::borrow<nb::args>(nb::make_tuple(error.errno_value, error.what())));
  } catch (const CodecError& error) {
    const char* name = dynamic_cast<const TimeoutError*>(&error)  ? "EncoderTimeoutError"
                       : dynamic_cast<const ClosedError*>(&error) ? "SessionClosedError"
                                                                  : "EncoderError";
    nb::object type = nb::module_::import_("muzero_rc.errors").attr(name);
    raise_python(type.ptr(),
                 nb::borrow<nb::args>(nb::make_tuple(error.what(), error.code, error.detail)));
  }
}

nb::tuple info_tuple(const vpx_rc_encodeframe_info_t& f) {
  int refs[3];
  for (int i = 0; i < 3; ++i)
    refs[i] = f.ref_frame_valid_list[i] ? f.ref_frame_coding_indexes[i] : -1;
  return nb::make_tuple(f.coding_index, f.show_index, f.update_type, f.show_frame != 0,
                        f.gop_index, f.gop_size, f.layer_depth, f.max_layer_depth,
                        f.frames_to_key, nb::make_tuple(refs[0], refs[1], refs[2]),
                        f.proposal_qindex, f.proposal_bits, f.min_qindex, f.max_qindex, f.boost,
                        f.tpl_intra_cost, f.tpl_mc_dep_cost);
}

nb::bytes to_bytes(const std::string& text) { return nb::bytes(text.data(), text.size()); }

nb::bytes to_bytes(const std::vector<uint64_t>& numbers) {
  return nb::bytes(reinterpret_cast<const char*>(numbers.data()), 8 * numbers.size());
}

nb::tuple work_tuple(const vpx_rc_encodeframe_result_t& v) {
  nb::list counts;
  for (const int64_t count : v.work) counts.append(count);
  return nb::tuple(counts);
}

nb::tuple result_tuple(const Result& r) {
  const vpx_rc_encodeframe_result_t& v = r.values;
  return nb::make_tuple(
      r.coding_index, v.show_index, v.show_frame != 0 || v.show_existing != 0,
      r.coding_index < 0 ? -1 : v.actual_encoding_qindex, v.bit_count,
      nb::make_tuple(v.sse_yuv[0], v.sse_yuv[1], v.sse_yuv[2]),
      nb::make_tuple(v.samples_yuv[0], v.samples_yuv[1], v.samples_yuv[2]), v.intra_blocks,
      v.inter_blocks, v.skip_blocks, r.cpu_s, to_bytes(r.partition), work_tuple(v), r.checksum);
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "libvpx VP9, steppable frame by frame.";
  nb::register_exception_translator(translate);

  m.def("build_id", [] { return MUZERO_RC_LIBVPX_BUILD_ID; },
        "Version of libvpx and hash of the patches it was built with.");
  m.def("hold_heap_thresholds", &hold_heap_thresholds,
        "From here on freed memory goes back to the system; glibc alone, for the whole process.");
  m.attr("FIRST_PASS_FIELDS") = kFirstPassFields;
  m.attr("FIRST_PASS_RECORD") = kFirstPassRecord;

  nb::class_<Settings>(m, "Settings")
      .def(nb::init<>())
      .def_rw("width", &Settings::width)
      .def_rw("height", &Settings::height)
      .def_rw("fps_num", &Settings::fps_num)
      .def_rw("fps_den", &Settings::fps_den)
      .def_rw("target_kbps", &Settings::target_kbps)
      .def_rw("speed", &Settings::speed)
      .def_rw("auto_alt_ref", &Settings::auto_alt_ref)
      .def_rw("lag_in_frames", &Settings::lag_in_frames)
      .def_rw("tpl", &Settings::tpl)
      .def_rw("aq_mode", &Settings::aq_mode)
      .def_rw("arnr_max_frames", &Settings::arnr_max_frames)
      .def_rw("arnr_strength", &Settings::arnr_strength)
      .def_rw("arnr_type", &Settings::arnr_type)
      .def_rw("kf_max_dist", &Settings::kf_max_dist)
      .def_rw("threads", &Settings::threads)
      .def_rw("row_mt", &Settings::row_mt)
      .def_rw("frame_parallel", &Settings::frame_parallel)
      .def_rw("tile_columns", &Settings::tile_columns)
      .def_rw("tile_rows", &Settings::tile_rows)
      .def_rw("rc_mode", &Settings::rc_mode)
      .def_rw("cq_level", &Settings::cq_level)
      .def_rw("min_quantizer", &Settings::min_quantizer)
      .def_rw("max_quantizer", &Settings::max_quantizer)
      .def_rw("undershoot_pct", &Settings::undershoot_pct)
      .def_rw("overshoot_pct", &Settings::overshoot_pct)
      .def_rw("color_space", &Settings::color_space)
      .def_rw("color_range", &Settings::color_range)
      .def_rw("bit_depth", &Settings::bit_depth);

  using FrameArray = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  nb::class_<FrameStore>(m, "FrameStore", "All frames of a clip, I420, in native memory.")
      .def("__init__",
           [](FrameStore* self, int width, int height, int bit_depth) {
             new (self) FrameStore(FrameSize{width, height, bit_depth});
           },
           "width"_a, "height"_a, "bit_depth"_a = 8)
      .def("append",
           [](FrameStore& self, FrameArray frame) {
             if (frame.shape(0) != self.size().bytes())
               throw nb::value_error("a frame has the wrong number of bytes");
             self.append(frame.data());
           })
      .def("read_from",
           [](FrameStore& self, int fd, size_t max_frames, size_t max_bytes,
              nb::object on_frames) {
             const Progress progress = reporting(on_frames);
             nb::gil_scoped_release unlocked;
             return self.read_from(fd, max_frames, max_bytes, progress);
           },
           "fd"_a, "max_frames"_a = 0, "max_bytes"_a = 0, "on_frames"_a = nb::none())
      .def("clear", &FrameStore::clear)
      .def("hashes",
           [](const FrameStore& self) {
             std::vector<uint64_t> found;
             {
               nb::gil_scoped_release unlocked;
               found = self.hashes();
             }
             return to_bytes(found);
           },
           "XXH64 of each frame, 8 bytes of it.")
      .def("frame",
           [](const FrameStore& self, size_t index) {
             if (index >= self.count()) throw nb::index_error();
             return nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>>(
                 self.frame(index), {self.size().bytes()}, nb::find(self));
           },
           "A read-only view of one frame, not a copy. [bytes] uint8.")
      .def("__len__", &FrameStore::count);

  nb::class_<FrameReader>(m, "FrameReader", "A clip's frames, one after the other.")
      .def_static("from_store",
                  [](std::shared_ptr<FrameStore> store) -> std::shared_ptr<FrameReader> {
                    return std::make_shared<StoreReader>(std::move(store));
                  })
      .def_static("from_pipe",
                  [](int fd, int width, int height, size_t max_frames, int bit_depth,
                     bool hashed) -> std::shared_ptr<FrameReader> {
                    return std::make_shared<PipeReader>(
                        fd, FrameSize{width, height, bit_depth}, max_frames, hashed);
                  },
                  "fd"_a, "width"_a, "height"_a, "max_frames"_a = 0, "bit_depth"_a = 8,
                  "hashed"_a = false)
      .def("hashes", [](const FrameReader& self) { return to_bytes(self.hashes()); },
           "XXH64 of each frame so far, 8 bytes of it, if the reader hashes; else none.");

  m.def(
      "first_pass",
      [](const Settings& settings, std::shared_ptr<FrameReader> reader, nb::object on_blocks,
         nb::object on_frames) {
        std::string stats;
        {
          const Progress progress = reporting(on_frames);
          const BlockSink sink = handing_over(on_blocks);
          nb::gil_scoped_release unlocked;
          stats = run_first_pass(settings, *reader, sink, progress);
        }
        return to_bytes(stats);
      },
      "settings"_a, "reader"_a, "on_blocks"_a = nb::none(), "on_frames"_a = nb::none());

  nb::class_<FirstPassSteps>(m, "FirstPassSteps",
                             "A first pass in steps; frames and statistics are there on the way.")
      .def(nb::init<const Settings&, std::shared_ptr<FrameReader>>(), "settings"_a, "reader"_a)
      .def("advance",
           [](FirstPassSteps& self, std::shared_ptr<FrameStore> kept, size_t frames) {
             const Heartbeat heartbeat = checking_signals();
             nb::gil_scoped_release unlocked;
             return self.advance(*kept, frames, heartbeat);
           },
           "kept"_a, "frames"_a,
           "Analyses more frames and keeps them: how many, fewer than asked for at the end.")
      .def("finish", &FirstPassSteps::finish, nb::call_guard<nb::gil_scoped_release>())
      .def("take_stats", [](FirstPassSteps& self) { return to_bytes(self.take_stats()); },
           "Packed statistics of frames that were finished since the last call.");

  m.def(
      "encode_plain",
      [](const Settings& settings, std::shared_ptr<FrameReader> reader,
         std::optional<nb::bytes> stats) {
        const std::string packed = stats ? std::string(stats->c_str(), stats->size()) : "";
        const bool two_pass = stats.has_value();
        const auto start = std::chrono::steady_clock::now();
        std::string ivf;
        double seconds;
        {
          nb::gil_scoped_release unlocked;
          const auto packets = encode_plain(settings, *reader, two_pass ? &packed : nullptr,
                                            checking_signals());
          seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
          Stream stream(settings, "");
          for (const Packet& packet : packets) stream.add(packet);
          stream.finish();
          ivf = stream.ivf();
        }
        return nb::make_tuple(to_bytes(ivf), seconds);
      },
      "settings"_a, "reader"_a, "stats"_a.none(),
      "Stock encoding without any hook, one-pass if stats is None: (IVF file, seconds).");

  nb::class_<RealtimeEncoder>(m, "RealtimeEncoder",
                              "One pass in real time, at a constant quantizer; keeps no packet.")
      .def(nb::init<const Settings&, int>(), "settings"_a, "quantizer"_a)
      .def("encode",
           [](RealtimeEncoder& self, std::shared_ptr<FrameStore> frames, size_t first, size_t count,
              nb::object on_frames) {
             if (first + count > frames->count()) throw nb::index_error();
             std::vector<RealtimeFrame> found;
             {
               const Progress progress = reporting(on_frames);
               nb::gil_scoped_release unlocked;
               found = self.encode(*frames, first, count, progress);
             }
             nb::list told;
             for (const RealtimeFrame& frame : found)
               told.append(nb::make_tuple(frame.bits, frame.squared_error));
             return told;
           },
           "frames"_a, "first"_a, "count"_a, "on_frames"_a = nb::none(),
           "Codes the frames that follow: (bits, squared error) of each.");

  nb::class_<Stream>(m, "Stream", "The coded packets of a finished session.")
      .def_prop_ro("packets", &Stream::packets)
      .def_prop_ro("bytes", &Stream::bytes)
      .def("ivf", [](const Stream& self) { return to_bytes(self.ivf()); });

  nb::class_<FrameDecision>(m, "FrameDecision", "How a frame is coded; libvpx's struct.")
      .def("__init__",
           [](FrameDecision* self, int qindex, int speed, int features, bool frozen_rate_account,
              int model_qindex, int model_bits, nb::bytes partition, int coarser, int finer,
              int show_existing, double show_existing_price, double show_existing_change,
              int next_gop_frames, int next_gop_layers) {
             const FrameDecision given{
                 qindex, speed, features, frozen_rate_account, model_qindex, model_bits,
                 std::string(partition.c_str(), partition.size()), coarser, finer,
                 show_existing, show_existing_price, show_existing_change,
                 next_gop_frames, next_gop_layers};
             given.check();
             new (self) FrameDecision(given);
           },
           "qindex"_a = -1, nb::kw_only(), "speed"_a = -1, "features"_a = 0,
           "frozen_rate_account"_a = false, "model_qindex"_a = -1, "model_bits"_a = 0,
           "partition"_a = nb::bytes("", 0), "coarser"_a = 0, "finer"_a = 0,
           "show_existing"_a = 0, "show_existing_price"_a = 0.0,
           "show_existing_change"_a = 0.0, "next_gop_frames"_a = 0, "next_gop_layers"_a = 0)
      .def_rw("qindex", &FrameDecision::qindex)
      .def_rw("speed", &FrameDecision::speed)
      .def_rw("features", &FrameDecision::features)
      .def_rw("frozen_rate_account", &FrameDecision::frozen_rate_account)
      .def_rw("model_qindex", &FrameDecision::model_qindex)
      .def_rw("model_bits", &FrameDecision::model_bits)
      .def_prop_ro("partition", [](const FrameDecision& d) { return to_bytes(d.partition); })
      .def_rw("coarser", &FrameDecision::coarser)
      .def_rw("finer", &FrameDecision::finer)
      .def_rw("show_existing", &FrameDecision::show_existing)
      .def_rw("show_existing_price", &FrameDecision::show_existing_price)
      .def_rw("show_existing_change", &FrameDecision::show_existing_change)
      .def_rw("next_gop_frames", &FrameDecision::next_gop_frames)
      .def_rw("next_gop_layers", &FrameDecision::next_gop_layers);

  nb::class_<Session>(m, "Session", "A second pass that asks for each frame's qindex.")
      .def("__init__",
           [](Session* self, const Settings& settings, std::shared_ptr<FrameReader> reader,
              nb::bytes stats, nb::bytes output, double timeout_s,
              bool keep_partitions, bool checksums,
              const std::vector<std::tuple<int, int, int>>& gops) {
             std::vector<GopLimits> limits;
             for (const auto& [from, frames, layers] : gops)
               limits.push_back({from, frames, layers});
             new (self) Session(settings, std::move(reader),
                                std::string(stats.c_str(), stats.size()),
                                std::string(output.c_str(), output.size()), timeout_s,
                                keep_partitions, checksums, std::move(limits));
           },
           "settings"_a, "reader"_a, "stats"_a, "output"_a = nb::bytes("", 0), "timeout_s"_a = 120.0,
           "keep_partitions"_a = false, "checksums"_a = false,
           "gops"_a = std::vector<std::tuple<int, int, int>>())
      .def("next",
           [](Session& self) -> nb::object {
             std::optional<vpx_rc_encodeframe_info_t> info;
             {
               nb::gil_scoped_release unlocked;
               info = self.next(check_signals);
             }
             return info ? nb::object(info_tuple(*info)) : nb::none();
           })
      .def("submit",
           [](Session& self, const FrameDecision& decision) { self.submit(decision); },
           "decision"_a, "Answers the waiting frame.")
      .def("result",
           [](Session& self) {
             Result given;
             {
               nb::gil_scoped_release unlocked;
               given = self.result(check_signals);
             }
             return result_tuple(given);
           })
      .def("take_uncoded",
           [](Session& self) {
             nb::list out;
             for (const Result& given : self.take_uncoded()) out.append(result_tuple(given));
             return out;
           })
      .def_prop_ro("ready", &Session::ready)
      .def_prop_ro("encode_cpu_s", &Session::encode_cpu_s)
      .def("finish", &Session::finish)
      .def("close", &Session::close, nb::call_guard<nb::gil_scoped_release>());

  m.def(
      "wait_any",
      [](const std::vector<Session*>& sessions, double timeout_s) {
        nb::gil_scoped_release unlocked;
        return Session::wait_any(sessions, timeout_s, check_signals);
      },
      "sessions"_a, "timeout_s"_a, "True once a session is ready, False after the time-out.");
}
