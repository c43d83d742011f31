# Programs that are written for ration: linked with the library of this build.
$(BUILD)/tests/integration/light: EXTRA = -L$(BUILD) -lration -Wl,-rpath,$(abspath $(BUILD))
$(BUILD)/tests/integration/light: $(BUILD)/libration.so
